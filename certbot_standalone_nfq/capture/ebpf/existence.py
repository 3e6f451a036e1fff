"""Whether a connection exists, and expects a packet's numbers: a stranger must not cut another's connection off."""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf import handshakes
from certbot_standalone_nfq.capture.ebpf.assembler import (
    DOUBLE,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R9,
    R10,
    WORD,
)
from certbot_standalone_nfq.capture.ebpf.code import Code, network_order
from certbot_standalone_nfq.capture.ebpf.layout import Frame, Helper, Packet, Socket
from certbot_standalone_nfq.capture.ebpf.maps import Maps

_IPV4 = 0x0800
_ESTABLISHED = 1
_THIS_NAMESPACE = -1  # BPF_F_CURRENT_NETNS
_IPV4_TUPLE, _IPV6_TUPLE = 12, 36
"""Bytes of the members of struct bpf_sock_tuple: addresses, then ports, the sender's first."""
_EXPECTED, _UNACKNOWLEDGED, _UNSENT = Frame.NAME, Frame.NAME + 8, Frame.NAME + 16


def check(code: Code, maps: Maps) -> None:
    """Go on behind this if so, else at "pass". Destroys r9.

    A connection's first request follows the SYN-ACK that left from here. For later ones, and on connections older than
    the programs, a socket of this machine knows: it expects exactly this packet, which acknowledges nothing unsent.
    """
    handshakes.find(code, maps, "exists", "ask sockets")
    code.label("ask sockets")
    _find_socket(code)
    _compare_with_socket(code)
    code.label("exists")


def _find_socket(code: Code) -> None:
    """Leave what an established connection's socket expects in the frame."""
    code.point(R2, Frame.CONNECTION)
    code.set(R3, _IPV6_TUPLE)
    code.load(WORD, R4, R6, Packet.PROTOCOL)
    code.jump_if(R4, "!=", network_order(_IPV4, 2), "tuple")
    code.load(DOUBLE, R4, R10, Frame.CONNECTION)
    code.store_double(Frame.NAME, R4)
    code.load(WORD, R4, R10, Frame.TCP)
    code.store_first(Frame.NAME + 8, R4, 4)
    code.point(R2, Frame.NAME)
    code.set(R3, _IPV4_TUPLE)
    code.label("tuple")
    code.set(R1, R6)
    code.set(R4, _THIS_NAMESPACE)
    code.set(R5, 0)
    code.call(Helper.SKC_LOOKUP_TCP)
    code.jump_if(R0, "==", 0, "pass")
    code.set(R9, R0)
    code.load(WORD, R2, R9, Socket.STATE)
    code.jump_if(R2, "!=", _ESTABLISHED, "release")
    code.set(R1, R9)
    code.call(Helper.TCP_SOCK)
    code.jump_if(R0, "==", 0, "release")
    for place, member in ((_EXPECTED, Socket.RCV_NXT), (_UNACKNOWLEDGED, Socket.SND_UNA), (_UNSENT, Socket.SND_NXT)):
        code.load(WORD, R2, R0, member)
        code.store_double(place, R2)
    code.set(R1, R9)
    code.call(Helper.SK_RELEASE)
    code.jump("found socket")
    code.label("release")
    code.set(R1, R9)
    code.call(Helper.SK_RELEASE)
    code.jump("pass")
    code.label("found socket")


def _compare_with_socket(code: Code) -> None:
    code.load(DOUBLE, R2, R10, _EXPECTED)
    _load_number(code, 4)
    code.jump_if(R2, "!=", R3, "pass")
    code.load(DOUBLE, R2, R10, _UNACKNOWLEDGED)
    code.load(DOUBLE, R4, R10, _UNSENT)
    _load_number(code, 8)
    code.do(R3, "-=", R2, bits=32)
    code.do(R4, "-=", R2, bits=32)
    code.jump_if(R3, ">", R4, "pass")


def _load_number(code: Code, offset: int) -> None:
    """Load a number of the TCP header into r3."""
    code.load(WORD, R3, R10, Frame.TCP + offset)
    code.swap(R3, 32)
