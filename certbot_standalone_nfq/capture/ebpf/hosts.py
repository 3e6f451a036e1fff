"""An HTTP request for any token, read: its token, and the name in its Host field among those pending.

Both come in the first segment of a CA's request. A request whose Host field does not, or that has two, passes; so does
one for what cannot be a token (RFC 8555, 8.3), or with a line that goes on the one before (RFC 9112, 5.2).
"""

from __future__ import annotations

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
    R7,
    R10,
)
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.layout import HEAD_ROOM, Frame
from certbot_standalone_nfq.capture.ebpf.maps import NAME_BYTES, Maps
from certbot_standalone_nfq.capture.ebpf.server_names import CASE, NAME_LENGTH, TRANSPORT_AT, look_up

FIND = "find host"
"""The label where the program goes on with a request that begins as selected, at r9 and of r8 bytes."""
_TOKEN_AT = len(b"GET /.well-known/acme-challenge/")
_SHORTEST, _LONGEST = 22, 128
_VERSION = b" HTTP/1."
_SEARCHED = 512
"""Bytes of a request in which its Host field must begin."""
_FIRST_END = _TOKEN_AT + _SHORTEST + len(_VERSION) + 1
"""Where the first line can end at the earliest."""
_SPACES = 4
"""In front of a name at most."""
_NAME, _TOKEN_END, _HOST = _SEARCHED + 128, _SEARCHED + 192, _SEARCHED + 200
"""Places behind the request in the map's value: a name's bytes, and two places in the request."""
assert _HOST + 8 == HEAD_ROOM
_HEAD = Frame.REST + 24
"""Where the address of the map's value is kept."""
_CR, _LF, _TAB, _SPACE = b"\r\n\t "


def write(code: Code, maps: Maps) -> None:
    """Go on at "found" if the request names what is pending; else at "pass"."""
    code.label(FIND)
    code.store_double(TRANSPORT_AT, R7)
    _copy_head(code, maps)
    _find_end_of_token(code)
    _check_version(code)
    _find_host(code)
    _take_name(code)
    look_up(code, maps)
    code.load(DOUBLE, R7, R10, TRANSPORT_AT)
    code.jump("found")


def _copy_head(code: Code, maps: Maps) -> None:
    """Copy the request into the map's value, with zeros behind it, and leave the address in r3."""
    code.store_double(Frame.REST, 0)
    code.look_up(maps.heads, Frame.REST)
    code.jump_if(R0, "==", 0, "pass")
    code.store_double(_HEAD, R0)
    for offset in range(0, HEAD_ROOM, 8):
        code.store(DOUBLE, R0, offset, 0)
    code.copy_start(_FIRST_END, _SEARCHED, "head")
    code.load(DOUBLE, R3, R10, _HEAD)


def _find_end_of_token(code: Code) -> None:
    """Note where the space behind the token is.

    By way of the map, so that the verifier does not look at the rest of the program for each place once more. Not by a
    loop: without CAP_PERFMON, old verifiers also follow it beyond its end.
    """
    for place in range(_TOKEN_AT, _TOKEN_AT + _LONGEST + 1):
        here = f"token at {place}"
        code.load(BYTE, R2, R3, place)
        if place >= _TOKEN_AT + _SHORTEST:
            code.jump_if(R2, "!=", _SPACE, here)
            code.store(HALF, R3, _TOKEN_END, place)
            code.jump("token ends")
            code.label(here)
        if place < _TOKEN_AT + _LONGEST:
            _require_character(code, f"{here} goes on")
    code.jump("pass")
    code.label("token ends")


def _require_character(code: Code, here: str) -> None:
    """Go on at "pass" unless the byte in r2 is of the alphabet of base64url. Changes r4."""
    code.set(R4, R2)
    code.do(R4, "|=", CASE)
    code.jump_if(R4, "<", ord("a"), f"{here} no letter")
    code.jump_if(R4, "<=", ord("z"), here)
    code.label(f"{here} no letter")
    for other in (ord("-"), ord("_")):
        code.jump_if(R2, "==", other, here)
    code.jump_if(R2, "<", ord("0"), "pass")
    code.jump_if(R2, ">", ord("9"), "pass")
    code.label(here)


def _check_version(code: Code) -> None:
    _point_to(code, _TOKEN_END, _TOKEN_AT + _LONGEST)
    for offset, expected in enumerate(_VERSION):
        code.load(BYTE, R2, R5, offset)
        code.jump_if(R2, "!=", expected, "pass")
    code.load(BYTE, R2, R5, len(_VERSION))
    code.jump_if(R2, "<", ord("0"), "pass")
    code.jump_if(R2, ">", ord("1"), "pass")
    code.load(BYTE, R2, R5, len(_VERSION) + 1)
    code.jump_if(R2, "==", _CR, "version ends")
    code.jump_if(R2, "!=", _LF, "pass")
    code.label("version ends")


def _point_to(code: Code, noted: int, most: int) -> None:
    """Set r5 to the address of a place that was noted."""
    code.load(HALF, R5, R3, noted)
    code.jump_if(R5, ">", most, "pass")
    code.do(R5, "+=", R3)


def _find_host(code: Code) -> None:
    """Note where the only Host field's value begins; go on at "pass" if there is another.

    What looks at lines stands behind the search. The verifier remembers each jump that it still has to follow, and how
    many it can remember is bounded.
    """
    for place in range(_FIRST_END, _SEARCHED):
        code.load(BYTE, R2, R3, place)
        code.jump_if(R2, "==", _LF, f"line end at {place}")
        code.label(f"no line end at {place}")
    code.jump("head ends")
    for place in range(_FIRST_END, _SEARCHED):
        code.label(f"line end at {place}")
        _look_at_line(code, place + 1, f"no line end at {place}")
        code.jump(f"no line end at {place}")
    code.label("head ends")


def _look_at_line(code: Code, begin: int, here: str) -> None:
    code.load(BYTE, R2, R3, begin)
    code.jump_if(R2, "==", _LF, "head ends")
    _leave_spaces(code)
    code.jump_if(R2, "!=", _CR, f"{here} begins")
    code.load(BYTE, R2, R3, begin + 1)
    code.jump_if(R2, "==", _LF, "head ends")
    code.jump(here)
    code.label(f"{here} begins")
    for offset, letter in enumerate(b"host"):
        if offset:
            code.load(BYTE, R2, R3, begin + offset)
        code.do(R2, "|=", CASE)
        code.jump_if(R2, "!=", letter, here)
    code.load(BYTE, R2, R3, begin + 4)
    _leave_spaces(code)
    code.jump_if(R2, "!=", ord(":"), here)
    code.load(HALF, R2, R3, _HOST)
    code.jump_if(R2, "!=", 0, "pass")
    code.store(HALF, R3, _HOST, begin + 5)


def _leave_spaces(code: Code) -> None:
    """Leave what servers read in more than one way to them: a line that goes on another, a space behind a name."""
    for space in (_SPACE, _TAB):
        code.jump_if(R2, "==", space, "pass")


def _take_name(code: Code) -> None:
    """Copy the name, without a port, into the frame, and note its length: an address of IPv6 without its bracket's end.

    By way of the map, as byte by byte no verifier lets the frame be written to without CAP_PERFMON.
    """
    code.load(HALF, R2, R3, _HOST)
    code.jump_if(R2, "==", 0, "pass")
    _point_to(code, _HOST, _SEARCHED + 5)
    _skip_spaces(code)
    code.set(R1, ord(":"))
    code.load(BYTE, R2, R5, 0)
    code.jump_if(R2, "!=", ord("["), "no bracket")
    code.set(R1, ord("]"))
    code.label("no bracket")
    for offset in range(NAME_BYTES):
        code.load(BYTE, R2, R5, offset)
        code.jump_if(R2, "==", 0, "pass")  # the line does not end in this segment
        code.jump_if(R2, "==", R1, f"name of {offset}")
        for end in (_CR, _LF, _SPACE, _TAB):
            code.jump_if(R2, "==", end, f"name of {offset}")
        code.store(BYTE, R3, _NAME + offset, R2)
    code.jump("pass")
    for offset in range(NAME_BYTES):
        code.label(f"name of {offset}")
        code.store(HALF, R3, _TOKEN_END, offset)
        code.jump("name taken")
    code.label("name taken")
    code.load(HALF, R4, R3, _TOKEN_END)
    code.store_double(NAME_LENGTH, R4)
    for offset in range(0, NAME_BYTES, 8):
        code.load(DOUBLE, R2, R3, _NAME + offset)
        code.store_double(Frame.NAME + offset, R2)


def _skip_spaces(code: Code) -> None:
    for number in range(_SPACES):
        code.load(BYTE, R2, R5, number)
        for space in (_SPACE, _TAB):
            code.jump_if(R2, "==", space, f"space {number}")
        code.do(R5, "+=", number)
        code.jump("spaces end")
        code.label(f"space {number}")
    code.jump("pass")
    code.label("spaces end")
