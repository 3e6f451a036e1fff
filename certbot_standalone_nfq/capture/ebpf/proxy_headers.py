"""The PROXY protocol's header ahead of a request: see wire/proxy_protocol.py, whose limits are the same here."""

from __future__ import annotations

import sys

from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    HALF,
    R0,
    R2,
    R3,
    R5,
    R8,
    R9,
    R10,
    WORD,
)
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.layout import SCANNED_BYTES, Frame
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

TELLING_BYTES = 4
"""How many first bytes of a payload show whether it may begin with a header."""
_FIXED = 16
_LONGEST_BINARY = 4096
_FIRST_END, _LAST_END = len(b"PROXY UNKNOWN"), 107 - len(b"\r\n")
"""Where the CR of a header in text can be."""
_CR, _LF = b"\r\n"
_SCANNED = Frame.NAME
"""Where the address is kept of what is searched."""
_FOUND_AT = SCANNED_BYTES - 2


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
    """Leave the header's length in r5.

    Not by a loop: without CAP_PERFMON, old verifiers also follow it beyond its end.
    """
    code.store_double(Frame.REST, 0)
    code.look_up(maps.scanned, Frame.REST)
    code.jump_if(R0, "==", 0, "pass")
    code.store_double(_SCANNED, R0)
    code.copy_start(_FIXED, _LAST_END + 2, "scanned")
    code.load(DOUBLE, R3, R10, _SCANNED)
    for end in range(_FIRST_END, _LAST_END + 1):
        code.load(BYTE, R2, R3, end)
        code.jump_if(R2, "!=", _CR, f"no end at {end}")
        code.load(BYTE, R2, R3, end + 1)
        code.set(R5, end + 2)
        code.jump_if(R2, "==", _LF, "end found")
        code.label(f"no end at {end}")
    code.jump("pass")
    code.label("end found")
    # By way of the map, so that the verifier does not look at the rest of the program for each place once more.
    code.store(HALF, R3, _FOUND_AT, R5)
    code.load(HALF, R5, R3, _FOUND_AT)
    code.set(R2, 0)


def _number(beginning: bytes, *, signed: bool = False) -> int:
    return int.from_bytes(beginning, sys.byteorder, signed=signed)
