"""A TLS ClientHello's extensions, walked through: the protocols it asks for, and its server name among those pending.

Both come early in the handshakes of CAs, and so in the first segment (RFC 8446, 4.1.2 and 4.2).
"""

from __future__ import annotations

import sys

from certbot_standalone_nfq.capture.bpf.extensions import BEFORE_SESSION, MOST_EXTENSIONS, PROTOCOLS
from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    HALF,
    R0,
    R2,
    R3,
    R4,
    R7,
    R9,
    R10,
    WORD,
)
from certbot_standalone_nfq.capture.ebpf.code import Code, network_order
from certbot_standalone_nfq.capture.ebpf.layout import Frame
from certbot_standalone_nfq.capture.ebpf.maps import NAME_BYTES, Maps

_SERVER_NAME = 0
_LONGEST_SESSION, _LONGEST_SUITES, _LONGEST_METHODS = 32, 1024, 8
_LONGEST_EXTENSION = 4096
_NAME_AT = 4 + 5
"""Where a name begins in its extension: behind that's header, the list's length, the type and its own length."""
_NAMED, _ASKED = 1, 2
_LOADED = Frame.START
NAME_LENGTH, _LENGTH, TRANSPORT_AT = Frame.REST, Frame.REST + 8, Frame.REST + 16
"""Of the name, and of its extension; and r7, where TCP or UDP begins."""
_NAME_EXTENSION, _PROTOCOLS_EXTENSION = Frame.REST + 24, Frame.REST + 32
"""Where they are in the packet."""
CASE = 0x20
"""The bit by which letters differ in case: names are looked up with it set in all of their bytes."""


def find(code: Code, protocols: bytes, maps: Maps, name: str) -> None:
    """Go on at "found" if a ClientHello at r9 asks for these protocols, and its server name is pending; else at "pass".

    `protocols` is the extension's length and content. The name makes labels unlike others.
    """
    for place in (_LENGTH, _NAME_EXTENSION, _PROTOCOLS_EXTENSION):
        code.store_double(place, 0)
    code.store_double(TRANSPORT_AT, R7)
    code.do(R9, "+=", BEFORE_SESSION)
    for length, longest in ((1, _LONGEST_SESSION), (2, _LONGEST_SUITES), (1, _LONGEST_METHODS)):
        _skip_vector(code, length, longest)
    code.do(R9, "+=", 2)
    code.set(R7, 0)
    for number in range(MOST_EXTENSIONS):
        _look_at_extension(code, int.from_bytes(protocols[:2], "big"), f"{name} {number}", f"{name} both")
    code.jump("pass")
    code.label(f"{name} both")
    _compare_protocols(code, protocols)
    _take_name(code, name)
    look_up(code, maps)
    code.load(DOUBLE, R7, R10, TRANSPORT_AT)
    code.jump("found")


def _look_at_extension(code: Code, protocols: int, here: str, both: str) -> None:
    """Note where the extension at r9 is, if it is one of both, and move r9 behind it.

    Not in a loop: without CAP_PERFMON, old verifiers also follow it beyond its end. An extension of protocols that has
    not this length lists others.
    """
    code.copy(R9, _LOADED, 4)
    code.load(HALF, R3, R10, _LOADED + 2)
    code.swap(R3, 16)
    code.jump_if(R3, ">", _LONGEST_EXTENSION, "pass")
    code.load(HALF, R2, R10, _LOADED)
    code.jump_if(R2, "==", network_order(PROTOCOLS, 2), f"{here} protocols")
    code.jump_if(R2, "!=", _SERVER_NAME, f"{here} next")
    code.store_double(_NAME_EXTENSION, R9)
    code.store_double(_LENGTH, R3)
    code.do(R7, "|=", _NAMED)
    code.jump(f"{here} next")
    code.label(f"{here} protocols")
    code.jump_if(R3, "!=", protocols, "pass")
    code.store_double(_PROTOCOLS_EXTENSION, R9)
    code.do(R7, "|=", _ASKED)
    code.label(f"{here} next")
    code.jump_if(R7, "==", _NAMED | _ASKED, both)
    code.do(R9, "+=", R3)
    code.do(R9, "+=", 4)


def _skip_vector(code: Code, length: int, longest: int) -> None:
    """Move r9 behind a vector that a length of one or two bytes precedes."""
    code.copy(R9, _LOADED, length)
    code.load(BYTE if length == 1 else HALF, R2, R10, _LOADED)
    if length == 2:
        code.swap(R2, 16)
    code.jump_if(R2, ">", longest, "pass")
    code.do(R9, "+=", R2)
    code.do(R9, "+=", length)


def _take_name(code: Code, name: str) -> None:
    """Copy the extension's one name, cut to the room there is, and note its whole length."""
    code.clear(Frame.NAME, NAME_BYTES)
    code.load(DOUBLE, R9, R10, _NAME_EXTENSION)
    code.set(R2, R9)
    code.do(R2, "+=", _NAME_AT - 3)
    code.point(R3, _LOADED + 1)
    code.set(R4, 3)  # the type, and the length
    code.copy_to_r3()
    code.load(BYTE, R2, R10, _LOADED + 1)
    code.jump_if(R2, "!=", 0, "pass")
    code.load(HALF, R4, R10, _LOADED + 2)
    code.swap(R4, 16)
    code.load(DOUBLE, R3, R10, _LENGTH)
    code.do(R3, "-=", _NAME_AT - 4)
    code.jump_if(R3, "!=", R4, "pass")
    code.store_double(NAME_LENGTH, R4)
    code.jump_if(R4, "<=", NAME_BYTES, f"{name} fits")
    code.set(R4, NAME_BYTES)
    code.label(f"{name} fits")
    code.jump_if(R4, "<", 1, "pass")
    code.set(R2, R9)
    code.do(R2, "+=", _NAME_AT)
    code.point(R3, Frame.NAME)
    code.copy_to_r3()


def _compare_protocols(code: Code, protocols: bytes) -> None:
    """Go on at "pass" unless the extension has this length and content."""
    padded = protocols + bytes(-len(protocols) % 8)
    code.clear(_LOADED, len(padded))
    code.load(DOUBLE, R2, R10, _PROTOCOLS_EXTENSION)
    code.do(R2, "+=", 2)
    code.point(R3, _LOADED)
    code.set(R4, len(protocols))
    code.copy_to_r3()
    for offset in range(0, len(padded), 8):
        code.load(DOUBLE, R2, R10, _LOADED + offset)
        code.set_wide(R3, int.from_bytes(padded[offset : offset + 8], sys.byteorder))
        code.jump_if(R2, "!=", R3, "pass")


def look_up(code: Code, maps: Maps) -> None:
    """Go on at "pass" unless the name in the frame is pending: so many bytes of it, in any case."""
    code.set_wide(R3, int.from_bytes(bytes([CASE]) * 8, sys.byteorder))
    for offset in range(0, NAME_BYTES, 8):
        code.load(DOUBLE, R2, R10, Frame.NAME + offset)
        code.do(R2, "|=", R3)
        code.store_double(Frame.NAME + offset, R2)
    code.look_up(maps.pending, Frame.NAME)
    code.jump_if(R0, "==", 0, "pass")
    code.load(WORD, R2, R0, 0)
    code.load(DOUBLE, R3, R10, NAME_LENGTH)
    code.jump_if(R2, "!=", R3, "pass")
