"""What becomes of packets that follow on a connection that is taken: we get them, until a later connection begins."""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf.assembler import BYTE, DOUBLE, R0, R2, R3, R4, R5, R10, WORD
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.layout import HANDSHAKE, START_BYTES, Frame, Kind
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.wire.flags import Flags


def write(code: Code, maps: Maps) -> None:
    """Take whatever comes on a connection that is taken: r0 is the address of its request's sequence number."""
    code.label("taken")
    code.load(DOUBLE, R3, R0, 0)
    code.set(R5, R3)
    code.do(R5, ">>=", 32)  # whether a FIN has come
    code.do(R3, "+=", 0, bits=32)
    code.load(WORD, R2, R10, Frame.TCP + 4)
    code.swap(R2, 32)
    code.load(BYTE, R4, R10, Frame.TCP + 13)
    code.jump_if(R4, "&", Flags.RST, "a reset")
    code.jump_if(R4, "&", Flags.SYN, "a SYN")
    code.jump_if(R4, "&", Flags.FIN, "a FIN")
    code.jump("more")
    code.label("a FIN")
    code.set_wide(R5, 1 << 32)
    code.do(R5, "|=", R3)
    code.store(DOUBLE, R0, 0, R5)
    code.jump("more")
    code.label("a SYN")
    code.jump_if(R5, "==", 0, "more")  # nothing new can follow a FIN alone
    code.do(R2, "-=", R3, bits=32)
    code.jump_if(R2, "s<=", 0, "more", bits=32)  # the connection's own, late or doubled
    code.discard(maps.taken, Frame.CONNECTION)  # a later one between the same ports (RFC 9293, 3.4.1)
    code.jump("pass")
    code.label("a reset")
    code.jump_if(R2, "==", R3, "pass")  # our own, on its way through a further device
    code.label("more")
    code.store_double(Frame.KIND, Kind.MORE)
    code.store_double(Frame.EARLIER, 0)
    code.clear(Frame.START, START_BYTES)
    code.clear(Frame.HANDSHAKE, HANDSHAKE.size)
