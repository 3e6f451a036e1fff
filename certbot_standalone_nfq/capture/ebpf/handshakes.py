"""A table of the SYN-ACKs that left: written at egress for each, read at ingress for requests that are pending.

A map of the kind that forgets what was used least would cost more than all else that is done for a bystander: it
allocates and locks. So this is an array of places with room for eight handshakes each, of which a new one displaces the
oldest. The place, and which of the eight, are told by a hash of the connection. Its multipliers are this run's secret,
so nobody can aim at a place.

What a handshake is known by is stored last, and in one piece: half of it names the connection, half of it proves that
its server's number was known. So of two processors that write to the same place at once, no mixture is left that a
stranger's packet could agree with. Whatever is displaced or mixed up is not found, and the packet passes.
"""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf.assembler import (
    DOUBLE,
    R0,
    R1,
    R2,
    R3,
    R5,
    R6,
    R9,
    R10,
    WORD,
)
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.headers import ETHERNET
from certbot_standalone_nfq.capture.ebpf.layout import (
    CONNECTION_BYTES,
    FIRST_HANDSHAKE_AT,
    HANDSHAKE,
    HANDSHAKE_BITS,
    HANDSHAKES,
    SEQUENCE_AT,
    Frame,
    Packet,
)
from certbot_standalone_nfq.capture.ebpf.maps import PLACE_BITS, Maps

_INTERFACE_AT, _HEADER_AT = SEQUENCE_AT + 4, SEQUENCE_AT + 8
_PLACE = Frame.SCRATCH + 8
_SPREADING = 0x9E3779B97F4A7C15
"""An odd number, which spreads what differs: sums of ports in a row are in a row themselves."""
_NAME_SHIFT = 21
"""Of the hash, behind the bits that tell the place: those that name the connection. The lowest bits are bad ones."""


def remember(code: Code, maps: Maps, link_header: int) -> None:
    """Remember a SYN-ACK, whose numbers in the frame are as its client's request will have them; then go on.

    Destroys r9.
    """
    code.clear(Frame.HANDSHAKE, HANDSHAKE.size)
    if link_header == ETHERNET:
        code.copy(0, Frame.HANDSHAKE + _HEADER_AT, ETHERNET)
    code.load(WORD, R2, R6, Packet.INTERFACE)
    code.store(WORD, R10, Frame.HANDSHAKE + _INTERFACE_AT, R2)
    code.load(WORD, R2, R10, Frame.TCP + 4)
    code.store(WORD, R10, Frame.HANDSHAKE + SEQUENCE_AT, R2)
    _find_place(code, maps)
    _identify(code, maps)
    code.load(WORD, R1, R0, 0)
    code.set(R2, R1)
    code.do(R2, "+=", 1)
    code.store(WORD, R0, 0, R2)
    code.do(R1, "&=", HANDSHAKES - 1)
    code.do(R1, "<<=", HANDSHAKE_BITS)
    code.do(R0, "+=", R1)
    for offset in range(SEQUENCE_AT, HANDSHAKE.size, 8):
        code.load(DOUBLE, R2, R10, Frame.HANDSHAKE + offset)
        code.store(DOUBLE, R0, FIRST_HANDSHAKE_AT + offset, R2)
    code.store(DOUBLE, R0, FIRST_HANDSHAKE_AT, R9)


def find(code: Code, maps: Maps, found: str, otherwise: str) -> None:
    """Go on at `found` if the packet is what follows its connection's handshake, else at `otherwise`.

    The sequence number is not compared where that of the stream's beginning has been. If there was a handshake, it is
    in the frame then, even if its numbers are others, as they are later on the connection; else zeros stay there.
    Destroys r9.
    """
    _find_place(code, maps)
    _identify(code, maps)
    _copy_newest(code)
    code.load(DOUBLE, R2, R10, Frame.HANDSHAKE)
    code.jump_if(R2, "!=", R9, otherwise)
    code.load(DOUBLE, R2, R10, Frame.EARLIER)
    code.jump_if(R2, "!=", 0, found)
    code.load(WORD, R2, R10, Frame.HANDSHAKE + SEQUENCE_AT)
    code.load(WORD, R3, R10, Frame.TCP + 4)
    code.jump_if(R2, "==", R3, found)
    code.jump(otherwise)


def _copy_newest(code: Code) -> None:
    """Copy the last handshake of the connection that r9 names into the frame, from its place at r0.

    The same ends may have had a connection before. Addresses are constant, as verifiers without CAP_PERFMON follow each
    of the others twice, to the program's end.
    """
    code.load(WORD, R1, R0, 0)
    code.set(R5, HANDSHAKES)
    for number in range(HANDSHAKES):
        at, other = FIRST_HANDSHAKE_AT + number * HANDSHAKE.size, f"not handshake {number}"
        code.load(DOUBLE, R2, R0, at)
        code.do(R2, "^=", R9)
        code.do(R2, ">>=", 32)
        code.jump_if(R2, "!=", 0, other)
        code.set(R3, R1)
        code.do(R3, "-=", number + 1)
        code.do(R3, "&=", HANDSHAKES - 1)
        code.jump_if(R3, ">", R5, other)
        code.set(R5, R3)
        for offset in range(0, HANDSHAKE.size, 8):
            code.load(DOUBLE, R2, R0, at + offset)
            code.store_double(Frame.HANDSHAKE + offset, R2)
        code.label(other)


def _find_place(code: Code, maps: Maps) -> None:
    """Set r0 to where the connection's handshake belongs, and r9 to the hash of the connection.

    A sum of products, whose upper half is the same for two connections as rarely as can be (multilinear hashing).
    """
    code.set_wide(R9, maps.multipliers[0])
    for offset in range(0, CONNECTION_BYTES, 4):
        code.load(WORD, R2, R10, Frame.CONNECTION + offset)
        code.set_wide(R3, maps.multipliers[2 + offset // 4])
        code.do(R2, "*=", R3)
        code.do(R9, "+=", R2)
    code.set(R2, R9)
    code.do(R2, ">>=", 32)
    code.do(R9, "^=", R2)
    code.set_wide(R3, _SPREADING)
    code.do(R9, "*=", R3)
    code.set(R2, R9)
    code.do(R2, ">>=", 64 - PLACE_BITS)
    code.store(WORD, R10, _PLACE, R2)
    code.look_up(maps.handshakes, _PLACE)
    code.jump_if(R0, "==", 0, "pass")


def _identify(code: Code, maps: Maps) -> None:
    """Turn the hash in r9 into what the handshake is known by. Changes r2 and r3."""
    code.load(WORD, R2, R10, Frame.TCP + 8)
    code.set_wide(R3, maps.multipliers[1])
    code.do(R2, "*=", R3)
    code.do(R2, "+=", R9)
    code.do(R2, ">>=", 32)
    code.do(R9, ">>=", _NAME_SHIFT)
    code.do(R9, "<<=", 32)
    code.do(R9, "|=", R2)
