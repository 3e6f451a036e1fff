"""Connections whose first bytes may become a challenge, while the server still has them."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from certbot_standalone_nfq.engine.receive_buffer import ReceiveBuffer
from certbot_standalone_nfq.wire.addresses import packed
from certbot_standalone_nfq.wire.tcp import Connection, Segment

_NETWORK = {4: 3, 16: 6}
"""Bytes of an address that whoever uses it can be expected to share with many: of an IPv4 and an IPv6 one."""


class Sockets(Protocol):
    """What the machine's own sockets show of connections. Both methods raise OSError if the kernel does not tell."""

    def is_open(self, ends: Connection, interface: int) -> bool:
        """Whether a socket has a connection whose packets come in by an interface."""

    def has_ended(self, ends: Connection, interface: int) -> bool:
        """Whether no socket has it any more, once all that came for it has been looked at."""


class Proof(enum.Enum):
    """Who can tell that a packet's connection exists."""

    SOCKETS = enum.auto()
    """The machine's own sockets, if they can be asked."""
    CAPTURE = enum.auto()
    """The capture: it shows no others."""
    NUMBERS = enum.auto()
    """The capture, and it has compared a request's numbers with those that the connection expects."""


@dataclass
class Watched:
    """A stream while the server still has its connection."""

    connection: Connection
    incoming: ReceiveBuffer
    has_socket: bool
    """Whether a socket of this machine has it."""
    proof: Proof = Proof.CAPTURE
    """Who can tell otherwise."""
    expected_by_server: int = 0
    """The sequence number after all that was let go to the server."""
    let_go: int = 0
    """How many of the unread bytes were."""

    def add(self, segment: Segment) -> None:
        """Take a segment that is let go to the server, or replaced."""
        self.expected_by_server = self.incoming.next_seq
        self.let_go = len(self.incoming.unread)
        self.incoming.add(segment)

    def without_last(self) -> Watched:
        """Return the stream as it was before the last segment, none of which has been read."""
        incoming = ReceiveBuffer(self.expected_by_server)
        incoming.unread = self.incoming.unread[: self.let_go]
        return Watched(self.connection, incoming, self.has_socket, self.proof, self.expected_by_server)


class WatchList:
    """The connections that are watched, by the network that they come from: many of one do not displace another's."""

    def __init__(self) -> None:
        self._count = 0
        self._by_network: OrderedDict[bytes, OrderedDict[Connection, Watched]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._by_network.get(_network(connection), ())

    def put(self, stream: Watched, limit: int) -> None:
        """Add a connection, not watched before; beyond the limit, forget the oldest of the network that has most."""
        self._by_network.setdefault(_network(stream.connection), OrderedDict())[stream.connection] = stream
        self._count += 1
        if self._count > limit:
            most = max(self._by_network.values(), key=len)
            self.pop(next(iter(most)))

    def pop(self, connection: Connection) -> Watched | None:
        """Remove a connection and return it, or None."""
        network = _network(connection)
        streams = self._by_network.get(network, OrderedDict())
        stream = streams.pop(connection, None)
        if stream:
            self._count -= 1
        if not streams:
            self._by_network.pop(network, None)
        return stream


def _network(connection: Connection) -> bytes:
    address = packed(connection.peer)
    return address[: _NETWORK[len(address)]]
