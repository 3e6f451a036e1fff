"""The headers of a packet: which connection it belongs to, and where its payload begins.

Fragments, IPv6 extension headers and tagged frames pass: the last are seen again on the VLAN's own device.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

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
    R10,
    WORD,
    Register,
)
from certbot_standalone_nfq.capture.ebpf.code import Code, network_order
from certbot_standalone_nfq.capture.ebpf.layout import Frame, Helper, Packet
from certbot_standalone_nfq.engine.protocols import Transport

ETHERNET = 14
"""Bytes of a link header that is the same in all packets; loopback's has as many."""
_OTHERHOST = 3  # include/uapi/linux/if_packet.h
_IPV4, _IPV6 = 0x0800, 0x86DD  # include/uapi/linux/if_ether.h
IPV4_HEADER, IPV6_HEADER = 20, 40
_FRAGMENT = 0x3FFF
_FROM_NETWORK_HEADER = 1  # BPF_HDR_START_NET
_LONGEST_LINK_HEADER = 255
_IPV4_AT = Frame.IP + 4


class Side(enum.IntEnum):
    """Which of a packet's ports is the server's, by its offset in the TCP header."""

    SOURCE = 0
    DESTINATION = 2


def begin(code: Code, *, other_hosts: bool) -> None:
    """Write the beginning: r6 is the packet. Without `other_hosts`, what is addressed to another host passes."""
    code.set(R6, R1)
    if not other_hosts:
        code.load(WORD, R2, R6, Packet.TYPE)
        code.jump_if(R2, "==", _OTHERHOST, "pass")
    code.load(WORD, R2, R6, Packet.VLAN_PRESENT)
    code.jump_if(R2, "!=", 0, "pass")


def sort_out(code: Code, port: int, side: Side, further: Callable[[int], None], *, datagrams: bool = False) -> None:
    """Let packets of other ports pass, behind an Ethernet header.

    This reads the packet where it is, which is fast. What is not there, `parse` looks at. `further` writes where those
    of the port go on, at "parse" or at "pass", given where in the packet TCP begins: the packet is at r2, its end at
    r3, and r1, r4 and r5 are free.
    """
    code.load(WORD, R2, R6, Packet.DATA)
    code.load(WORD, R3, R6, Packet.DATA_END)
    code.load(WORD, R4, R6, Packet.PROTOCOL)
    for protocol, carried, first, size in ((_IPV4, 9, 0x45, IPV4_HEADER), (_IPV6, 6, None, IPV6_HEADER)):
        following = f"not {protocol:#x}"
        tcp = ETHERNET + size
        code.jump_if(R4, "!=", network_order(protocol, 2), following)
        code.set(R5, R2)
        code.do(R5, "+=", tcp + 20)
        code.jump_if(R5, ">", R3, "parse")
        if first is not None:  # with options, TCP is elsewhere
            code.load(BYTE, R5, R2, ETHERNET)
            code.jump_if(R5, "!=", first, "parse")
        code.load(HALF, R5, R2, tcp + side)
        code.jump_if(R5, "!=", network_order(port, 2), "pass")
        code.load(BYTE, R5, R2, ETHERNET + carried)
        if datagrams:
            code.jump_if(R5, "==", Transport.UDP, "parse")
        code.jump_if(R5, "!=", Transport.TCP, "pass")
        further(tcp)
        code.label(following)
    code.jump("pass")


def parse(code: Code, link_header: int, port: int, side: Side, *, datagrams: bool = False) -> None:
    """Leave where TCP begins in r7, its length in r8, its header and the connection in the frame.

    With `datagrams`, it goes on at "UDP" where these are, with r7 alone, behind the link's header.

    The connection is named as its client's packets name it. With a link header that is not Ethernet's, whose length
    some drivers do not tell, IP is where the kernel says, and the link header is what the packet has more than that.
    """
    code.label("parse")
    code.load(WORD, R2, R6, Packet.PROTOCOL)
    code.jump_if(R2, "==", network_order(_IPV4, 2), "IPv4")
    code.jump_if(R2, "==", network_order(_IPV6, 2), "IPv6")
    code.jump("pass")
    code.label("IPv4")
    _copy_ip(code, link_header, _IPV4_AT, 20)
    _read_ipv4(code, link_header, side, datagrams=datagrams)
    code.jump("TCP")
    code.label("IPv6")
    _copy_ip(code, link_header, Frame.IP, 40)
    _read_ipv6(code, link_header, side, datagrams=datagrams)
    code.label("TCP")
    add_link_header(code, R7, link_header)
    code.copy(R7, Frame.TCP, 20)
    code.load(HALF, R2, R10, Frame.TCP + side)
    code.jump_if(R2, "!=", network_order(port, 2), "pass")
    first, second = (0, 2) if side is Side.DESTINATION else (2, 0)
    for place, port_at in ((34, second), (32, first)):
        code.load(HALF, R2, R10, Frame.TCP + port_at)
        code.store(HALF, R10, Frame.CONNECTION + place, R2)


def add_link_header(code: Code, register: Register, link_header: int) -> None:
    """Add the bytes of the link header to a number. Changes r2 unless it is Ethernet's."""
    if link_header == ETHERNET:
        code.do(register, "+=", ETHERNET)
    else:
        code.load(DOUBLE, R2, R10, Frame.LINK)
        code.do(register, "+=", R2)


def _copy_ip(code: Code, link_header: int, place: int, size: int) -> None:
    if link_header == ETHERNET:
        code.copy(ETHERNET, place, size)
        return
    code.set(R1, R6)
    code.set(R2, 0)
    code.point(R3, place)
    code.set(R4, size)
    code.set(R5, _FROM_NETWORK_HEADER)
    code.call(Helper.SKB_LOAD_BYTES_RELATIVE)
    code.jump_if(R0, "!=", 0, "pass")


def _find_link_header(code: Code, link_header: int) -> None:
    """Store the bytes of the link header, given those of the IP packet in r3."""
    if link_header == ETHERNET:
        return
    code.load(WORD, R2, R6, Packet.LENGTH)
    code.do(R2, "-=", R3)
    code.jump_if(R2, ">", _LONGEST_LINK_HEADER, "pass")
    code.store_double(Frame.LINK, R2)


def _read_ipv4(code: Code, link_header: int, side: Side, *, datagrams: bool) -> None:
    code.load(HALF, R2, R10, _IPV4_AT + 6)
    code.do(R2, "&=", network_order(_FRAGMENT, 2))
    code.jump_if(R2, "!=", 0, "pass")
    _check_version(code, _IPV4_AT, 4)
    code.load(BYTE, R7, R10, _IPV4_AT)
    code.do(R7, "&=", 15)
    code.do(R7, "<<=", 2)
    code.jump_if(R7, "<", 20, "pass")
    code.load(HALF, R3, R10, _IPV4_AT + 2)
    code.swap(R3, 16)
    code.set(R8, R3)
    code.do(R8, "-=", R7)
    _find_link_header(code, link_header)
    _check_protocol(code, _IPV4_AT + 9, datagrams=datagrams)
    if side is Side.DESTINATION:
        code.load(DOUBLE, R2, R10, _IPV4_AT + 12)
    else:
        code.load(WORD, R2, R10, _IPV4_AT + 12)
        code.load(WORD, R3, R10, _IPV4_AT + 16)
        low, high = (R3, R2) if code.byteorder == "little" else (R2, R3)
        code.do(high, "<<=", 32)
        code.do(low, "|=", high)
        code.set(R2, low)
    code.store_double(Frame.CONNECTION, R2)
    code.clear(Frame.CONNECTION + 8, 24)


def _read_ipv6(code: Code, link_header: int, side: Side, *, datagrams: bool) -> None:
    _check_version(code, Frame.IP, 6)
    code.set(R7, 40)
    code.load(HALF, R8, R10, Frame.IP + 4)
    code.swap(R8, 16)
    code.set(R3, R8)
    code.do(R3, "+=", 40)
    _find_link_header(code, link_header)
    _check_protocol(code, Frame.IP + 6, datagrams=datagrams)
    places = (8, 16, 24, 32) if side is Side.DESTINATION else (24, 32, 8, 16)
    for number, place in enumerate(places):
        code.load(DOUBLE, R2, R10, Frame.IP + place)
        code.store_double(Frame.CONNECTION + 8 * number, R2)


def _check_version(code: Code, place: int, version: int) -> None:
    code.load(BYTE, R2, R10, place)
    code.do(R2, ">>=", 4)
    code.jump_if(R2, "!=", version, "pass")


def _check_protocol(code: Code, place: int, *, datagrams: bool) -> None:
    code.load(BYTE, R2, R10, place)
    if datagrams:
        code.jump_if(R2, "==", Transport.UDP, "UDP")
    code.jump_if(R2, "!=", Transport.TCP, "pass")
