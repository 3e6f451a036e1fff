"""What the beginning of a TLS stream asks for: the server name and the application protocols of its ClientHello.

It may have arrived in part. Only a ClientHello within one record is read (RFC 8446, 5.1): all clients send it like that
unless they are made not to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HANDSHAKE, CLIENT_HELLO = 22, 1
"""The types of a record and of a message: RFC 8446, 5.1 and 4."""
ALPN = 16
"""The extension's type: RFC 7301, 6."""
_SERVER_NAME, _HOST_NAME = 0, 0  # RFC 6066, 3
_MAJOR_VERSION = 3
_MAX_RECORD = 1 << 14
_VERSION_AND_RANDOM = 2 + 32


class Malformed(Exception):
    """No ClientHello, or one that contradicts itself."""


class _Ended(Exception):
    """More would have to come."""


@dataclass(frozen=True)
class ClientHello:
    """What has arrived of it. A field is None until its extension has arrived."""

    server_name: bytes | None
    """In lower case; empty if there is none."""
    protocols: tuple[bytes, ...] | None
    """Empty if there are none."""


class _Reader:
    """Numbers and vectors (RFC 8446, 3) from bytes of which the last ones may not have come yet."""

    def __init__(self, data: bytes, length: int) -> None:
        """Read from a structure of a length."""
        self._data = data[:length]
        self._length = length
        self._at = 0

    def is_at_end(self) -> bool:
        return self._at == self._length

    def take(self, size: int) -> bytes:
        """Return the next bytes. Raises Malformed if there can be none, and _Ended if they are still to come."""
        begin, self._at = self._at, self._at + size
        if self._at > self._length:
            raise Malformed
        if self._at > len(self._data):
            raise _Ended
        return self._data[begin : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Return what follows a length of so many bytes."""
        return self.take(self.number(size))

    def inner(self, size: int) -> _Reader:
        """Return what to read the rest by, which a length of so many bytes precedes."""
        length = self.number(size)
        if self._at + length > self._length:
            raise Malformed
        return _Reader(self._data[self._at :], length)


def read(start: bytes) -> ClientHello:
    """Return what a stream's beginning shows. Raises Malformed."""
    found: dict[int, bytes] = {}
    try:
        for kind, data in _extensions(start):
            if kind in found:  # RFC 8446, 4.2: of each type there is one
                raise Malformed
            found[kind] = data
            if _SERVER_NAME in found and ALPN in found:
                break
        missing: bytes | None = b""
    except _Ended:
        missing = None
    return ClientHello(_server_name(found.get(_SERVER_NAME, missing)), _protocols(found.get(ALPN, missing)))


def _extensions(start: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the extensions' types and contents. Raises Malformed or _Ended."""
    for place, expected in ((0, HANDSHAKE), (1, _MAJOR_VERSION), (5, CLIENT_HELLO)):
        if start[place : place + 1] not in (b"", bytes([expected])):
            raise Malformed
    record = _Reader(start[3:], 2 + _MAX_RECORD).inner(2)
    record.take(1)
    message = record.inner(3)
    message.take(_VERSION_AND_RANDOM)
    message.vector(1)  # session identifier
    message.vector(2)  # cipher suites
    message.vector(1)  # compression methods
    if message.is_at_end():
        return
    extensions = message.inner(2)
    while not extensions.is_at_end():
        yield extensions.number(2), extensions.vector(2)


def _server_name(extension: bytes | None) -> bytes | None:
    if not extension:
        return extension
    names = _whole(extension)
    kind, name = names.number(1), names.vector(2)
    return name.lower() if kind == _HOST_NAME else b""


def _protocols(extension: bytes | None) -> tuple[bytes, ...] | None:
    if not extension:
        return None if extension is None else ()
    listed, found = _whole(extension), []
    while not listed.is_at_end():
        found.append(listed.vector(1))
    return tuple(found)


def _whole(extension: bytes) -> _Reader:
    """Return what to read an extension's list by, which has come as a whole. Raises Malformed."""
    length = int.from_bytes(extension[:2], "big")
    if len(extension) != 2 + length:
        raise Malformed
    return _Reader(extension[2:], length)
