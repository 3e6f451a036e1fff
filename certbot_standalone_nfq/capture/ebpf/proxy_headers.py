"""The PROXY protocol's header ahead of a request: see wire/proxy_protocol.py, whose limits are the same here."""

from __future__ import annotations

import sys

from certbot_standalone_nfq.capture.ebpf.assembler import (
    DOUBLE,
    HALF,
    R0,
    R2,
    R3,
    R4,
    R5,
    R8,
    R9,
    R10,
    WORD,
)
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.layout import Frame
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

TELLING_BYTES = 4
"""Of a payload, which tell whether it may begin with a header."""
_FIXED = 16
_LONGEST_BINARY = 4096
_FIRST_END, _LAST_END = len(b"PROXY UNKNOWN"), 107 - len(b"\r\n")
"""Where the CR of a header in text can be."""
_AT = Frame.NAME
"""Where the place is kept that is looked at next."""


def leave_if_there(code: Code) -> None:
    """Go on at "PROXY header" if the start in the frame begins with the first TELLING_BYTES of one."""
    code.load(WORD, R2, R10, Frame.START)
    for beginning in (TEXT_BEGINNING, BINARY_SIGNATURE):
        code.jump_if(R2, "==", _number(beginning[:TELLING_BYTES], signed=True), "PROXY header", bits=32)


def skip(code: Code, maps: Maps) -> None:
    """Move r9 and r8 behind the header; without a whole one, or anything behind it, go on at "pass"."""
    code.label("PROXY header")
    code.jump_if(R8, "<=", _FIXED - 1, "pass")
    code.copy(R9, Frame.REST, _FIXED)
    code.load(WORD, R2, R10, Frame.REST)
    code.jump_if(R2, "==", _number(TEXT_BEGINNING[:4], signed=True), "in text", bits=32)
    for offset in (4, 8):
        code.load(WORD, R2, R10, Frame.REST + offset)
        expected = _number(BINARY_SIGNATURE[offset : offset + 4], signed=True)
        code.jump_if(R2, "!=", expected, "pass", bits=32)
    code.load(HALF, R5, R10, Frame.REST + _FIXED - 2)
    code.swap(R5, 16)
    code.do(R5, "+=", _FIXED)
    code.jump_if(R5, ">", _LONGEST_BINARY, "pass")
    code.jump("skip")
    code.label("in text")
    code.load(HALF, R2, R10, Frame.REST + 4)
    code.jump_if(R2, "!=", _number(TEXT_BEGINNING[4:6]), "pass")
    _find_end_of_text(code, maps)
    code.label("skip")
    code.do(R9, "+=", R5)
    code.do(R8, "-=", R5)
    code.jump_if(R8, "s<=", 0, "pass")


def _find_end_of_text(code: Code, maps: Maps) -> None:
    """Leave the header's length in r5."""
    code.set(R5, _FIRST_END)
    code.store_double(_AT, R5)
    code.label("scan")
    code.load(DOUBLE, R5, R10, _AT)
    code.jump_if(R5, ">", _LAST_END, "pass")
    code.set(R2, R9)
    code.do(R2, "+=", R5)
    code.do(R5, "+=", 1)
    code.store_double(_AT, R5)
    code.point(R3, Frame.REST)
    code.set(R4, 2)
    code.copy_to_r3()
    code.load(HALF, R2, R10, Frame.REST)
    code.jump_if(R2, "!=", _number(b"\r\n"), "scan")
    # By way of a map, so that the verifier does not look at the rest of the program for each place once more.
    code.store_double(Frame.REST, 0)
    code.look_up(maps.numbers, Frame.REST)
    code.jump_if(R0, "==", 0, "pass")
    code.load(DOUBLE, R5, R10, _AT)
    code.do(R5, "+=", 1)
    code.store(DOUBLE, R0, 0, R5)
    code.load(DOUBLE, R5, R0, 0)
    code.jump_if(R5, ">", _LAST_END + 2, "pass")
    code.store_double(_AT, 0)


def _number(beginning: bytes, *, signed: bool = False) -> int:
    return int.from_bytes(beginning, sys.byteorder, signed=signed)
