"""Packets that are none of ours, told by a look at where they are: most of what arrives at the port."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from certbot_standalone_nfq.capture.ebpf.assembler import BYTE, DOUBLE, HALF, R1, R2, R3, R4, R5
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.headers import ETHERNET, IPV4_HEADER, IPV6_HEADER
from certbot_standalone_nfq.capture.ebpf.layout import ANY_TAKEN, ANY_WATCHED
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.capture.ebpf.proxy_headers import TELLING_BYTES
from certbot_standalone_nfq.capture.ebpf.selection import Alternative
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

_COMPARED = 8
"""How many bytes of a payload are compared: enough to tell a challenge request from one for a page."""
_PLAIN, _WITH_TIMESTAMPS = 20, 32
"""Bytes of TCP headers."""
_LENGTHS = {IPV4_HEADER: (2, IPV4_HEADER), IPV6_HEADER: (4, 0)}
"""By the bytes of an IP header: where in it a length is, and how much of the header that includes."""


def let_pass(code: Code, alternatives: Sequence[Alternative], maps: Maps, tcp: int) -> None:
    """While no connection is taken or watched, let pass what cannot carry a request, or begins in another way.

    `tcp` is where TCP begins in the packet at r2, whose end is r3. Others go on at "parse".
    """
    code.set_value(R1, maps.control.descriptor)
    assert (ANY_TAKEN, ANY_WATCHED) == (0, 4)
    code.load(DOUBLE, R1, R1, ANY_TAKEN)
    code.jump_if(R1, "!=", 0, "parse")
    code.load(BYTE, R4, R2, tcp + 13)
    code.do(R4, "&=", Flags.SYN | Flags.RST | Flags.ACK)
    code.jump_if(R4, "!=", Flags.ACK, "pass")
    _measure_payload(code, tcp)
    code.jump_if(R5, "s<=", 0, "pass")
    beginnings = _beginnings(alternatives)
    if not all(each.mask for each in beginnings):
        code.jump("parse")
        return
    _compare_beginning(code, beginnings, tcp)


def _measure_payload(code: Code, tcp: int) -> None:
    """Set r4 to the bytes of the TCP header, and r5 to those of the payload, which may be negative."""
    code.load(BYTE, R4, R2, tcp + 12)
    code.do(R4, ">>=", 4)
    code.do(R4, "<<=", 2)
    offset, included = _LENGTHS[tcp - ETHERNET]
    code.load(HALF, R5, R2, ETHERNET + offset)
    code.swap(R5, 16)
    code.do(R5, "-=", included)
    code.do(R5, "-=", R4)


class _Beginning(NamedTuple):
    """How a payload begins: its first bytes as a number in the machine's byte order, compared under a mask."""

    value: int
    mask: int


def _beginnings(alternatives: Sequence[Alternative]) -> set[_Beginning]:
    """Return the beginnings of all that is selected, and of headers that it may come behind."""
    found = {_beginning(each) for each in alternatives}
    if any(each.after_proxy_header for each in alternatives):
        headers = (each[:TELLING_BYTES] for each in (TEXT_BEGINNING, BINARY_SIGNATURE))
        found |= {_Beginning(_number(each), _number(b"\xff" * len(each))) for each in headers}
    return found


def _beginning(alternative: Alternative) -> _Beginning:
    value, mask = bytearray(_COMPARED), bytearray(_COMPARED)
    for field in alternative.fields:
        for at, (wanted, bits) in enumerate(zip(field.value, field.mask or b"\xff" * len(field.value)), field.offset):
            if at < _COMPARED:
                value[at], mask[at] = wanted & bits, bits
    return _Beginning(_number(value), _number(mask))


def _number(content: bytes | bytearray) -> int:
    return int.from_bytes(content.ljust(_COMPARED, b"\0"), sys.byteorder)


def _compare_beginning(code: Code, beginnings: set[_Beginning], tcp: int) -> None:
    """Go on at "parse" if the payload begins so, or is too short to tell, or elsewhere; else at "pass".

    TCP headers have no options or, in most packets, timestamps. Without CAP_PERFMON, only offsets that are constant may
    be added to where a packet is.
    """
    code.jump_if(R5, "<", _COMPARED, "parse")
    for header in (_PLAIN, _WITH_TIMESTAMPS):
        other = f"not {header} at {tcp}"
        code.jump_if(R4, "!=", header, other)
        code.set(R5, R2)
        code.do(R5, "+=", tcp + header + _COMPARED)
        code.jump_if(R5, ">", R3, "parse")
        code.load(DOUBLE, R1, R2, tcp + header)
        code.jump(f"compare at {tcp}")
        code.label(other)
    code.jump("parse")
    code.label(f"compare at {tcp}")
    for value, mask in sorted(beginnings):
        code.set_wide(R4, mask)
        code.do(R4, "&=", R1)
        code.set_wide(R5, value)
        code.jump_if(R4, "==", R5, "parse")
    code.jump("pass")
