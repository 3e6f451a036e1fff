"""What becomes of a request that is ours: a record for us, and a reset for the server."""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf import following
from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    HALF,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    WORD,
    Register,
)
from certbot_standalone_nfq.capture.ebpf.code import Code, network_order
from certbot_standalone_nfq.capture.ebpf.headers import ETHERNET, add_link_header
from certbot_standalone_nfq.capture.ebpf.layout import (
    ANY_TAKEN,
    HANDED_OVER,
    LARGE,
    LOST,
    RECORD,
    RECORD_HANDSHAKE_AT,
    SEQUENCE_AT,
    SMALL,
    START_BYTES,
    Frame,
    Helper,
    Kind,
    Packet,
)
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.wire.flags import Flags

_IPV6 = 0x86DD
_TCP_HEADER = 20
_PSEUDO_HEADER = 6 + _TCP_HEADER  # the protocol and the length, in two of its fields
_WRITTEN, _LENGTH = Frame.START, Frame.START + 8
"""The checksum as it has been written, and the length to write: the payload's start has been handed over by then."""
_PACKET_AT = RECORD.size + START_BYTES


def write(code: Code, maps: Maps, link_header: int) -> None:
    """Write what takes a request: the program goes on here."""
    _take(code, maps)
    code.jump("hand over")
    following.write(code, maps)
    _hand_over(code, maps, link_header)
    code.load(DOUBLE, R2, R10, Frame.KIND)
    for kind in (Kind.MORE, Kind.DATAGRAM):
        code.jump_if(R2, "==", kind, "drop")
    _turn_into_reset(code)
    _write_reset(code, link_header)
    code.jump("pass")
    _give_up(code, maps)


def _take(code: Code, maps: Maps) -> None:
    code.load(WORD, R2, R10, Frame.TCP + 4)
    code.swap(R2, 32)
    code.store_double(Frame.SCRATCH + 8, R2)
    code.put(maps.taken, Frame.CONNECTION, Frame.SCRATCH + 8)
    code.jump_if(R0, "!=", 0, "pass")  # there are too many
    code.set_value(R1, maps.control.descriptor)
    code.store(WORD, R1, ANY_TAKEN, 1)


def _hand_over(code: Code, maps: Maps, link_header: int) -> None:
    """Write the record. Destroys r8 and r9."""
    code.label("hand over")
    code.load(WORD, R8, R6, Packet.LENGTH)
    code.jump_if(R8, ">", SMALL, "large")
    _reserve(code, maps, SMALL)
    code.jump("reserved")
    code.label("large")
    code.jump_if(R8, "<=", LARGE, "cut")
    code.set(R8, LARGE)
    code.label("cut")
    _reserve(code, maps, LARGE)
    code.label("reserved")
    code.jump_if(R0, "==", 0, "no room")
    code.set(R9, R0)
    _describe(code, link_header)
    code.set(R2, 0)
    code.set(R3, R9)
    code.do(R3, "+=", _PACKET_AT)
    code.set(R4, R8)
    code.jump_if(R4, "<", 1, "discard")
    code.copy_to_r3("discard")
    code.set(R1, R9)
    code.set(R2, 0)
    code.call(Helper.RINGBUF_SUBMIT)


def _reserve(code: Code, maps: Maps, size: int) -> None:
    code.set_map(R1, maps.ring.descriptor)
    code.set(R2, _PACKET_AT + size)
    code.set(R3, 0)
    code.call(Helper.RINGBUF_RESERVE)


def _describe(code: Code, link_header: int) -> None:
    """Write what comes before the packet into the record at r9: see layout.RECORD."""
    code.load(DOUBLE, R2, R10, Frame.KIND)
    code.store(WORD, R9, 0, R2)
    for offset, member in ((4, Packet.INTERFACE), (8, Packet.LENGTH), (20, Packet.MARK)):
        code.load(WORD, R2, R6, member)
        code.store(WORD, R9, offset, R2)
    code.set(R3, 0)
    add_link_header(code, R3, link_header)
    code.store(WORD, R9, 12, R3)
    code.load(DOUBLE, R2, R10, Frame.EARLIER)
    code.store(WORD, R9, 16, R2)
    for source, target, size in (
        (Frame.HANDSHAKE + SEQUENCE_AT, RECORD_HANDSHAKE_AT, HANDED_OVER),
        (Frame.START, RECORD.size, START_BYTES),
    ):
        for offset in range(0, size, 8):
            code.load(DOUBLE, R2, R10, source + offset)
            code.store(DOUBLE, R9, target + offset, R2)


def _turn_into_reset(code: Code) -> None:
    """Make the TCP header in the frame a reset's. Leave the sum of its pseudo-header in r8, that of both in r9."""
    code.store(BYTE, R10, Frame.TCP + 12, _TCP_HEADER // 4 << 4)
    code.store(BYTE, R10, Frame.TCP + 13, Flags.RST | Flags.ACK)
    code.store(HALF, R10, Frame.TCP + 14, 0)
    code.store(WORD, R10, Frame.TCP + 16, 0)
    _add_up(code, Frame.CONNECTION, 32, network_order(_PSEUDO_HEADER, 2))
    code.set(R8, R0)
    _add_up(code, Frame.TCP, _TCP_HEADER, R8)
    code.set(R9, R0)
    _fold(code, R9)
    _fold(code, R8)
    code.store(HALF, R10, Frame.TCP + 16, R8)


def _add_up(code: Code, place: int, size: int, seed: Register | int) -> None:
    """Add bytes of the frame up, as checksums do, in r0."""
    code.set(R1, 0)
    code.set(R2, 0)
    code.point(R3, place)
    code.set(R4, size)
    code.set(R5, seed)
    code.call(Helper.CSUM_DIFF)
    code.do(R0, "<<=", 32)
    code.do(R0, ">>=", 32)


def _fold(code: Code, register: Register) -> None:
    """Fold a sum of 32 bits into 16. Changes r2."""
    for _ in range(2):
        code.set(R2, register)
        code.do(R2, "&=", 0xFFFF)
        code.do(register, ">>=", 16)
        code.do(register, "+=", R2)


def _write_reset(code: Code, link_header: int) -> None:
    """Write the reset over the packet. The server gets nothing if that fails: the request is ours already."""
    code.set(R1, R6)
    code.set(R2, R7)
    code.do(R2, "+=", _TCP_HEADER)
    code.set(R3, 0)
    code.call(Helper.SKB_CHANGE_TAIL)
    code.jump_if(R0, "!=", 0, "drop")
    code.set(R2, R7)
    _overwrite(code, Frame.TCP, _TCP_HEADER, recompute=True)
    _set_checksum(code)
    _set_length(code, link_header)


def _set_checksum(code: Code) -> None:
    """Set the checksum, however the kernel is to go on with it.

    In the field is the pseudo-header's sum P. Replaced from ~P to the whole sum, it is right where it is complete, and
    stays P where the kernel or a network card is to complete it. Where a card has added the packet up, its sum is
    brought up to date.
    """
    code.set(R1, R6)
    code.set(R2, R7)
    code.do(R2, "+=", 16)
    code.set(R3, R8)
    code.do(R3, "^=", 0xFFFF)
    code.set(R4, R9)
    code.set(R5, 2)
    code.call(Helper.L4_CSUM_REPLACE)
    code.jump_if(R0, "!=", 0, "drop")
    code.set(R9, R7)
    code.do(R9, "+=", 16)
    code.copy(R9, _WRITTEN, 2, "drop")
    code.load(HALF, R2, R10, _WRITTEN)
    code.jump_if(R2, "==", R8, "to be completed")
    code.do(R8, "^=", 0xFFFF)
    code.do(R2, "+=", R8)
    code.set(R1, R6)
    code.call(Helper.CSUM_UPDATE)
    code.label("to be completed")


def _set_length(code: Code, link_header: int) -> None:
    """Set the length in the IP header, and IPv4's checksum."""
    code.load(WORD, R2, R6, Packet.PROTOCOL)
    code.jump_if(R2, "==", network_order(_IPV6, 2), "length of IPv6")
    _point_behind_link(code, R9, 0, link_header)
    code.set(R4, R7)
    code.do(R4, "+=", _TCP_HEADER)
    code.do(R4, "-=", R9)
    code.swap(R4, 16)
    code.store_first(_LENGTH, R4, 2)
    code.set(R1, R6)
    code.set(R2, R9)
    code.do(R2, "+=", 10)
    code.load(HALF, R3, R10, Frame.IP + 4 + 2)
    code.set(R5, 2)
    code.call(Helper.L3_CSUM_REPLACE)
    code.jump_if(R0, "!=", 0, "drop")
    code.set(R2, R9)
    code.do(R2, "+=", 2)
    _overwrite(code, _LENGTH, 2, recompute=False)
    code.jump("pass")
    code.label("length of IPv6")
    code.store(HALF, R10, _LENGTH, network_order(_TCP_HEADER, 2))
    _point_behind_link(code, R2, 4, link_header)
    _overwrite(code, _LENGTH, 2, recompute=True)


def _point_behind_link(code: Code, register: Register, offset: int, link_header: int) -> None:
    """Set the offset in the packet of a byte of the IP header."""
    if link_header == ETHERNET:
        code.set(register, ETHERNET + offset)
    else:
        code.load(DOUBLE, register, R10, Frame.LINK)
        code.do(register, "+=", offset)


def _overwrite(code: Code, place: int, size: int, *, recompute: bool) -> None:
    """Copy from the frame to the packet, whose offset is in r2; `recompute` brings a card's sum up to date."""
    code.set(R1, R6)
    code.point(R3, place)
    code.set(R4, size)
    code.set(R5, int(recompute))
    code.call(Helper.SKB_STORE_BYTES)
    code.jump_if(R0, "!=", 0, "drop")


def _give_up(code: Code, maps: Maps) -> None:
    """Undo what was begun where the record does not fit; on a taken connection, the packet is lost and comes again."""
    code.label("discard")
    code.set(R1, R9)
    code.set(R2, 0)
    code.call(Helper.RINGBUF_DISCARD)
    code.label("no room")
    code.set_value(R1, maps.control.descriptor)
    code.set(R2, 1)
    code.add_to(R1, LOST, R2)
    code.load(DOUBLE, R2, R10, Frame.KIND)
    code.jump_if(R2, "==", Kind.MORE, "drop")
    code.jump_if(R2, "==", Kind.DATAGRAM, "pass")
    code.discard(maps.taken, Frame.CONNECTION)
    code.jump("pass")
