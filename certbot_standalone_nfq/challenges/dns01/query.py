"""DNS queries, read from fixed places (RFC 1035, 4.1): the header, one question, and EDNS if it comes first behind.

Names are read as they stand. A pointer (4.1.4) has nothing to point to in a query's only name, so a name with one is
none of ours, and no byte is ever read twice. Nothing behind the first OPT record is looked at.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("!6H")
HEADER = 12
"""Bytes of a message's header."""
_QUESTION_END = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_OPTION = struct.Struct("!HH")
_QR_AND_OPCODE = 0xF800
_CLASS_IN = 1
_LONGEST_LABEL, _LONGEST_NAME = 63, 255  # RFC 1035, 2.3.4
_COOKIE = 10  # RFC 7873, 9
_COOKIE_WITH_SERVERS_PART = range(16, 41)  # RFC 7873, 4: 8 bytes of the client's, and 8 to 32 of the server's
_MAX_ADDITIONAL = 3
"""Records to pass over while looking for the OPT record: clients put it first, or behind nothing else."""


class Type(enum.IntEnum):
    """Types of records that resolvers ask for (RFC 1035, 3.2.2; RFC 3596; RFC 4034; RFC 6891, 6.1.1; RFC 8659)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    TXT = 16
    AAAA = 28
    OPT = 41
    DS = 43
    DNSKEY = 48
    ANY = 255
    CAA = 257


@dataclass(frozen=True)
class Edns:
    """What an OPT record says (RFC 6891, 6.1)."""

    size: int
    """Bytes of the longest answer over UDP that the client takes, as it says."""
    version: int
    dnssec_ok: bool
    cookie: bytes
    """The cookie (RFC 7873), if it has a server's part; otherwise empty."""


@dataclass(frozen=True)
class Query:
    """A query for one name, of class IN."""

    id: int
    flags: int
    """The second two bytes of the header, in host order."""
    name: bytes
    """In wire format, in lower case: each label behind its length, and an empty one at the end."""
    typ: int
    question: bytes
    """The question section as it came: the name in the client's own case, the type, the class."""
    edns: Edns | None


def parse(message: bytes) -> Query | None:
    """Return the query that a whole message is, or None if it is another message, or none that makes sense."""
    if len(message) < HEADER:
        return None
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & _QR_AND_OPCODE or questions != 1 or answers or authorities:
        return None
    name_end = _name_end(message)
    if name_end is None or name_end + _QUESTION_END.size > len(message):
        return None
    end = name_end + _QUESTION_END.size
    typ, class_ = _QUESTION_END.unpack_from(message, name_end)
    if class_ != _CLASS_IN:
        return None
    name = message[HEADER:name_end].lower()  # RFC 4343, 3; lengths, below 64, are no letters
    return Query(ident, flags, name, typ, message[HEADER:end], _edns(message, end, additional))


def to_wire(name: str) -> bytes:
    """Return a name in wire format and lower case, given its text. Raises ValueError if it can be no name."""
    labels = name.rstrip(".").encode("ascii").split(b".")
    if not all(0 < len(label) <= _LONGEST_LABEL for label in labels):
        raise ValueError(f"not a domain name: {name!r}")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(wire) > _LONGEST_NAME:
        raise ValueError(f"a domain name that is too long: {name!r}")
    return wire.lower()


def to_text(name: bytes) -> str:
    """Return the text of a name in wire format; what cannot be part of a host's name is shown by its number."""
    return ".".join(_label_text(label) for label in _labels(name))


def type_name(typ: int) -> str:
    """Return what a type is called (RFC 3597, 5)."""
    return Type(typ).name if typ in set(Type) else f"TYPE{typ}"


def parents(name: bytes) -> Iterator[bytes]:
    """Yield a name in wire format, and all names above it but the root."""
    while name[0]:
        yield name
        name = name[1 + name[0] :]


def _labels(name: bytes) -> Iterator[bytes]:
    while name[0]:
        yield name[1 : 1 + name[0]]
        name = name[1 + name[0] :]


def _label_text(label: bytes) -> str:
    return "".join(chr(byte) if 33 <= byte < 127 and byte not in b'."\\' else f"\\{byte:03}" for byte in label)


def _name_end(message: bytes) -> int | None:
    """Return where the first question's name ends, or None if it does not, or is longer than a name can be."""
    position = HEADER
    while position < min(len(message), HEADER + _LONGEST_NAME):
        length = message[position]
        if length > _LONGEST_LABEL:
            return None
        position += 1 + length
        if not length:
            return position
    return None


def _edns(message: bytes, position: int, records: int) -> Edns | None:
    """Return what the OPT record says, if there is one among the first records, whose names are the root's."""
    for _ in range(min(records, _MAX_ADDITIONAL)):
        if position + 1 + _RECORD.size > len(message) or message[position]:
            return None
        typ, class_, ttl, length = _RECORD.unpack_from(message, position + 1)
        position += 1 + _RECORD.size
        if position + length > len(message):
            return None
        if typ == Type.OPT:
            return Edns(class_, ttl >> 16 & 0xFF, bool(ttl & 0x8000), _cookie(message[position : position + length]))
        position += length
    return None


def _cookie(options: bytes) -> bytes:
    position = 0
    while position + _OPTION.size <= len(options):
        code, length = _OPTION.unpack_from(options, position)
        position += _OPTION.size
        if code == _COOKIE:
            cookie = options[position : position + length]
            return cookie if len(cookie) == length and length in _COOKIE_WITH_SERVERS_PART else b""
        position += length
    return b""
