"""rtnetlink(7): requests, their answers, and attributes. Numbers are in the machine's byte order."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator

NLM_F_CREATE, NLM_F_EXCL, NLM_F_ECHO = 0x400, 0x200, 0x8
NLM_F_DUMP = 0x300
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTERRUPTED = 0x1, 0x4, 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SECONDS = 5.0
"""How long to wait for an answer: the kernel answers at once, unless another program holds its lock for a long time."""
_MAX_DATAGRAM = 1 << 17
_TRIES = 5
"""Of a dump that changes of what it shows have interrupted."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without the nested and byte-order flags

Message = tuple[int, bytes]
"""What kind it is, and what follows its header."""


def dump(kind: int, body: bytes) -> list[Message]:
    """Return all that a request for a list brings. Raises OSError."""
    for _ in range(_TRIES):
        messages, whole = _ask(kind, NLM_F_DUMP, body)
        if whole:
            break
    return messages


def change(kind: int, flags: int, body: bytes) -> list[Message]:
    """Make a change; return what the kernel echoes of it, if the flags ask for that. Raises OSError."""
    return _ask(kind, flags | _NLM_F_ACK, body)[0]


def _ask(kind: int, flags: int, body: bytes) -> tuple[list[Message], bool]:
    found: list[Message] = []
    whole = True
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_SECONDS)
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 0, 0) + body)
        while True:
            for answer, given, content in _split(kernel.recv(_MAX_DATAGRAM)):
                whole = whole and not given & _NLM_F_DUMP_INTERRUPTED
                if answer in (_NLMSG_DONE, _NLMSG_ERROR):
                    _raise_for(content)
                    return found, whole
                found.append((answer, content))


def messages(datagram: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram."""
    for kind, _, content in _split(datagram):
        yield kind, content


def _split(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(datagram) >= _HEADER.size:
        length, kind, flags, *_ = _HEADER.unpack_from(datagram)
        yield kind, flags, datagram[_HEADER.size : length]
        datagram = datagram[max(_padded(length), _HEADER.size) :]


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes' values by their kinds."""
    return dict(_attributes(data))


def _attributes(data: bytes) -> Iterable[Message]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : length]
        data = data[max(_padded(length), _ATTRIBUTE.size) :]


def text(value: bytes) -> str:
    """Return an attribute's text, which a zero byte ends."""
    return value.partition(b"\0")[0].decode(errors="replace")


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _raise_for(content: bytes) -> None:
    number = -struct.unpack_from("=i", content)[0] if len(content) >= struct.calcsize("=i") else 0
    if number:
        raise OSError(number, os.strerror(number))
