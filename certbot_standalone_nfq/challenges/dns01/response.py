"""DNS responses: the values of a name, or that it has none of the type asked for."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from certbot_standalone_nfq.challenges.dns01.query import HEADER, Query, Type

OVER_TCP = 0xFFFF
"""Bytes of the longest message over TCP (RFC 1035, 4.2.2)."""
_WITHOUT_EDNS = 512  # RFC 1035, 4.2.1
_OUR_SIZE = 1232
"""Bytes of the longest response over UDP, and what we say that we take: what no network fragments."""
_QR, _AA, _TC = 0x8000, 0x0400, 0x0200
_REFUSED = 5
_COPIED = 0x0110  # recursion desired, checking disabled: RFC 1035, 4.1.1; RFC 4035, 3.2.2
_NAME_OF_QUESTION = struct.pack("!H", 0xC000 | HEADER)
_CLASS_IN = 1
_RECORD = struct.Struct("!HHIH")
_COOKIE = 10
_SOA_TIMERS = struct.pack("!5I", 1, 3600, 600, 86400, 0)
"""Serial, refresh, retry, expire, and for how long a negative answer may be kept: not at all (RFC 2308, 5)."""


def limit_over_udp(query: Query) -> int:
    """Return the bytes of the longest response to a query over UDP (RFC 6891, 6.2.3 to 6.2.5)."""
    return min(max(query.edns.size, _WITHOUT_EDNS), _OUR_SIZE) if query.edns else _WITHOUT_EDNS


def write(query: Query, values: Sequence[bytes], limit: int) -> bytes:
    """Return the response with a name's TXT values, of up to 255 bytes each, if the query asks for them.

    For another type, it says that the name has none: a resolver that begins with another must not take it for missing.
    A response longer than `limit` is replaced by an empty one that asks for TCP (RFC 2181, 9).
    """
    if query.typ not in (Type.TXT, Type.ANY):
        return without_records(query)
    response = _message(query, _AA, answers=[_txt(value) for value in values])
    return response if len(response) <= limit else _message(query, _AA | _TC)


def without_records(query: Query) -> bytes:
    """Return the response that a name exists, and has no record of the type asked for (RFC 2308, 2.2)."""
    return _message(query, _AA, authority=_soa())


def refusal(query: Query) -> bytes:
    """Return the response that a name is none of ours (RFC 1035, 4.1.1)."""
    return _message(query, _REFUSED)


def has_values(message: bytes) -> bool:
    """Whether a response that `write` returned has the values in it."""
    return message[6:8] != b"\0\0"  # the number of answers: RFC 1035, 4.1.1


def _message(query: Query, flags: int, answers: Sequence[bytes] = (), authority: bytes = b"") -> bytes:
    opt = _opt(query)
    flags |= _QR | query.flags & _COPIED
    header = struct.pack("!6H", query.id, flags, 1, len(answers), bool(authority), bool(opt))
    return header + query.question + b"".join(answers) + authority + opt


def _txt(value: bytes) -> bytes:
    return _record(Type.TXT, bytes([len(value)]) + value)


def _soa() -> bytes:
    """Return what makes a negative answer one (RFC 2308, 2.2), for the name that was asked for."""
    return _record(Type.SOA, _NAME_OF_QUESTION + _NAME_OF_QUESTION + _SOA_TIMERS)


def _record(typ: int, data: bytes) -> bytes:
    """Return a record of the name in question, to be kept for no time."""
    return _NAME_OF_QUESTION + _RECORD.pack(typ, _CLASS_IN, 0, len(data)) + data


def _opt(query: Query) -> bytes:
    """Return our OPT record, if the query has one (RFC 6891, 6.1.1).

    A cookie is returned as it came: the server in whose place we answer vouched for it before (RFC 7873, 5.2.4), and
    a client that had one from it discards an answer without (5.3).
    """
    if not query.edns:
        return b""
    cookie = query.edns.cookie
    options = struct.pack("!HH", _COOKIE, len(cookie)) + cookie if cookie else b""
    flags = 0x8000 if query.edns.dnssec_ok else 0  # RFC 3225, 3: copied
    return b"\0" + _RECORD.pack(Type.OPT, _OUR_SIZE, flags, len(options)) + options
