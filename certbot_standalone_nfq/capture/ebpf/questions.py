"""A DNS query's question, read: its name among those pending, its type and its class.

What the server alone can answer passes, as the engine would have it: another class, DS records, which are the parent
zone's, and a version of EDNS that we do not know (RFC 1035, 4.1.2; RFC 4035, 3.1.4.1; RFC 6891, 6.1.3).
"""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    HALF,
    R2,
    R3,
    R4,
    R7,
    R9,
    R10,
)
from certbot_standalone_nfq.capture.ebpf.code import Code, network_order
from certbot_standalone_nfq.capture.ebpf.layout import Frame
from certbot_standalone_nfq.capture.ebpf.maps import NAME_BYTES, Maps
from certbot_standalone_nfq.capture.ebpf.server_names import NAME_LENGTH, TRANSPORT_AT, look_up

_LONGEST_LABEL, _LONGEST_NAME, _MOST_LABELS = 63, 255, 16
_IN, _DS, _OPT = 1, 43, 41
_RECORD = 11
"""Bytes of a record without its data, where its name is the root's."""
_LOADED = Frame.START


def find(code: Code, offset: int, maps: Maps, name: str) -> None:
    """Go on at "found" if the question at an offset from r9 is for a pending name; else at "pass".

    The name makes labels unlike others.
    """
    code.store_double(TRANSPORT_AT, R7)
    code.do(R9, "+=", offset)
    _measure_name(code, name)
    code.store_double(NAME_LENGTH, R7)
    code.clear(Frame.NAME, NAME_BYTES)
    code.set(R4, R7)
    code.jump_if(R4, "<=", NAME_BYTES, f"{name} fits")
    code.set(R4, NAME_BYTES)
    code.label(f"{name} fits")
    code.jump_if(R4, "<", 1, "pass")
    code.set(R2, R9)
    code.point(R3, Frame.NAME)
    code.copy_to_r3()
    code.do(R9, "+=", R7)
    _check_type(code)
    _check_edns(code, name)
    look_up(code, maps)
    code.load(DOUBLE, R7, R10, TRANSPORT_AT)
    code.jump("found")


def _measure_name(code: Code, name: str) -> None:
    """Leave the length of the name at r9 in r7.

    Not by a loop: without CAP_PERFMON, the verifier also follows it where its end is not seen in time.
    """
    code.set(R7, 0)
    for _ in range(_MOST_LABELS):
        code.set(R2, R9)
        code.do(R2, "+=", R7)
        code.point(R3, _LOADED)
        code.set(R4, 1)
        code.copy_to_r3()
        code.load(BYTE, R2, R10, _LOADED)
        code.jump_if(R2, ">", _LONGEST_LABEL, "pass")
        code.do(R7, "+=", 1)
        code.do(R7, "+=", R2)
        code.jump_if(R7, ">", _LONGEST_NAME, "pass")
        code.jump_if(R2, "==", 0, f"{name} measured")
    code.jump("pass")
    code.label(f"{name} measured")


def _check_type(code: Code) -> None:
    code.copy(R9, _LOADED, 4)
    code.load(HALF, R2, R10, _LOADED)
    code.jump_if(R2, "==", network_order(_DS, 2), "pass")
    code.load(HALF, R2, R10, _LOADED + 2)
    code.jump_if(R2, "!=", network_order(_IN, 2), "pass")


def _check_edns(code: Code, name: str) -> None:
    """Look at the version if an OPT record comes first behind the question."""
    code.set(R2, R9)
    code.do(R2, "+=", 4)
    code.point(R3, _LOADED + 1)
    code.set(R4, _RECORD)
    code.copy_to_r3(f"{name} without EDNS")
    code.load(BYTE, R2, R10, _LOADED + 1)
    code.jump_if(R2, "!=", 0, f"{name} without EDNS")
    code.load(HALF, R2, R10, _LOADED + 2)
    code.jump_if(R2, "!=", network_order(_OPT, 2), f"{name} without EDNS")
    code.load(BYTE, R2, R10, _LOADED + 7)
    code.jump_if(R2, "!=", 0, "pass")
    code.label(f"{name} without EDNS")
