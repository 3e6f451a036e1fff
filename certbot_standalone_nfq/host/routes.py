"""The route of one packet, as the kernel's rules choose it: rtnetlink(7), RTM_GETROUTE.

Unlike a raw socket, it takes the protocol and the ports into account (`ip rule ... ipproto tcp sport 80`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import starmap

from certbot_standalone_nfq.host import rtnetlink
from certbot_standalone_nfq.host.netlink import Questions
from certbot_standalone_nfq.wire.addresses import packed, unpacked

_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_DESTINATION, _SOURCE, _OUTPUT, _GATEWAY, _MARK, _PROTOCOL, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 4, 5, 16, 27, 28, 29
_UNICAST = 1  # RTN_UNICAST

_ROUTE = struct.Struct("=BBBBBBBBI")
"""Of `struct rtmsg`: family, lengths of the addresses, and what a request leaves to the kernel."""


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
        self._questions = Questions(self._kernel)

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
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        bits = len(source) * 8
        attributes = [(_DESTINATION, destination), (_SOURCE, source), (_MARK, struct.pack("=I", mark)), *further]
        body = _ROUTE.pack(family, bits, bits, 0, 0, 0, 0, 0, 0) + b"".join(starmap(rtnetlink.attribute, attributes))
        kind, content = self._questions.ask(_RTM_GETROUTE, body)
        return _read(content) if kind == _RTM_NEWROUTE else None


def _read(body: bytes) -> Hop | None:
    attributes = rtnetlink.attributes(body[_ROUTE.size :])
    if body[7] != _UNICAST or _OUTPUT not in attributes:
        return None
    gateway = attributes.get(_GATEWAY)
    return Hop(struct.unpack("=I", attributes[_OUTPUT])[0], unpacked(gateway) if gateway else "")
