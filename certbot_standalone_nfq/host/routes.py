"""The route of one packet, as the kernel's rules choose it: rtnetlink(7), RTM_GETROUTE.

Unlike a raw socket, it takes the protocol and the ports into account (`ip rule ... ipproto tcp sport 80`).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from certbot_standalone_nfq.wire.addresses import packed, unpacked

_NLMSG_ERROR = 2
_NLM_F_REQUEST = 0x1
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_DESTINATION, _SOURCE, _OUTPUT, _GATEWAY, _MARK, _PROTOCOL, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 4, 5, 16, 27, 28, 29
_UNICAST = 1  # RTN_UNICAST
_MAX_DATAGRAM = 1 << 16

_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
"""Of `struct rtmsg`: family, lengths of the addresses, and what a request leaves to the kernel."""
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True)
class Hop:
    """Where a packet goes next."""

    interface: int
    gateway: str
    """Empty if the destination is on the interface's link."""


class Routes:
    """The routes of one network namespace: that of the thread that makes it. For use by one thread at a time."""

    def __init__(self) -> None:
        """Open a socket. Raises OSError."""
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def by_ports(self, protocol: int, source: tuple[str, int], destination: tuple[str, int], mark: int) -> Hop | None:
        """Return the next hop of a packet of this machine's if its ports or protocol matter to its route, else None.

        Raises OSError, also where there is no route, and over IPv4 where the source is no address of this machine.
        """
        transport = (
            (_PROTOCOL, bytes([protocol])),
            (_SOURCE_PORT, source[1].to_bytes(2, "big")),
            (_DESTINATION_PORT, destination[1].to_bytes(2, "big")),
        )
        ends = packed(source[0]), packed(destination[0])
        found, otherwise = self._find(*ends, mark, transport), self._find(*ends, mark)
        return found if found != otherwise else None

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()

    def _find(
        self, source: bytes, destination: bytes, mark: int, further: Iterable[tuple[int, bytes]] = ()
    ) -> Hop | None:
        """Return the next hop, or None if there is none, as for this machine itself."""
        attributes = [(_DESTINATION, destination), (_SOURCE, source), (_MARK, struct.pack("=I", mark)), *further]
        self._sequence += 1
        self._kernel.send(_request(self._sequence, len(source), attributes))
        while True:
            # The kernel answers before `send` returns.
            answer = self._kernel.recv(_MAX_DATAGRAM, socket.MSG_DONTWAIT)
            length, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._sequence:
                return _result(kind, answer[_HEADER.size : length])


def _result(kind: int, body: bytes) -> Hop | None:
    if kind == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", body)[0]
        raise OSError(number, os.strerror(number))
    return _read(body) if kind == _RTM_NEWROUTE else None


def _request(sequence: int, size: int, attributes: Iterable[tuple[int, bytes]]) -> bytes:
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, size * 8, size * 8, 0, 0, 0, 0, 0, 0)
    for kind, value in attributes:
        length = _ATTRIBUTE.size + len(value)
        body += _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, sequence, 0) + body


def _read(body: bytes) -> Hop | None:
    attributes = dict(_attributes(body[_ROUTE.size :]))
    if body[7] != _UNICAST or _OUTPUT not in attributes:
        return None
    gateway = attributes.get(_GATEWAY)
    return Hop(struct.unpack("=I", attributes[_OUTPUT])[0], unpacked(gateway) if gateway else "")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[max((length + 3) & ~3, _ATTRIBUTE.size) :]
