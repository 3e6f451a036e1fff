"""Attempts to connect to the port, as segments at the machine's edge show them.

Only the segments that open, refuse or close a connection are seen, and those that begin like a challenge request; what
goes out is seen only from the moment on that a client seems to wait in vain. A connection that its client closes
after sending something is somebody's ordinary business, and is forgotten. What stays is what may explain a failure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from certbot_standalone_nfq.core.http01 import token_of
from certbot_standalone_nfq.core.segment import Connection, Flags
from certbot_standalone_nfq.core.sequence import distance

MAX_ATTEMPTS = 4096
"""Connections; beyond it, the oldest is forgotten."""
_MAX_PACKETS = 16
"""Packets kept of a connection."""


@dataclass(frozen=True)
class Sighting:
    """A segment at the machine's edge, before any firewall rule. The connection is the client's, either way."""

    connection: Connection
    seq: int
    ack: int
    flags: Flags
    payload: bytes
    outgoing: bool
    time: float
    """Seconds since the epoch."""
    packet: bytes = b""
    """From its IP header on, as far as it was shown."""


@dataclass
class Attempt:
    """One connection, or one that did not come about. Times are seconds since the epoch."""

    connection: Connection
    first_seq: int | None
    """The sequence number of the client's SYN, if that was seen."""
    first: float
    last: float
    syns: int = 0
    """How often its SYN came: twice or more, and the client has not got an answer to it."""
    observed_syns: int = 0
    """Those of them that came when it was seen what goes out."""
    accepted: bool = False
    """A SYN-ACK left this machine, as far as was seen."""
    refused: bool = False
    """A reset left instead."""
    sent: int | None = None
    """Octets that the client had sent when it closed the connection."""
    token: str | None = None
    """The token of its challenge request, if it made one."""
    packets: list[Sighting] = field(default_factory=list)
    """Its first segments."""


class Attempts:
    """The attempts that may explain a failure, a bounded number of them."""

    def __init__(self, *, outgoing_seen: bool = False) -> None:
        self._attempts: OrderedDict[Connection, Attempt] = OrderedDict()
        self.arrivals: Counter[int] = Counter()
        """Connections that anybody wanted to open, by IP version."""
        self.outgoing_seen = outgoing_seen
        """Whether what goes out is to be seen: set as soon as a client repeats its SYN."""

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts.values())

    def observe(self, seen: Sighting) -> None:
        """Take a segment into account, in the order they were seen."""
        attempt = self._attempts.get(seen.connection)
        if _opens(seen) and (attempt is None or attempt.first_seq != seen.seq):
            self._attempts.pop(seen.connection, None)
            if seen.connection.peer != seen.connection.local:  # else it came from this machine itself
                self.arrivals[6 if ":" in seen.connection.peer else 4] += 1
            attempt = self._begin(seen, seen.seq)
        elif attempt is None:
            if seen.outgoing or not seen.payload:
                return  # the end of a connection that was there before us
            attempt = self._begin(seen, None)
        self._note(attempt, seen)
        if attempt.sent and attempt.token is None:
            del self._attempts[seen.connection]

    def _note(self, attempt: Attempt, seen: Sighting) -> None:
        attempt.last = seen.time
        if len(attempt.packets) < _MAX_PACKETS:
            attempt.packets.append(seen)
        if seen.outgoing:
            attempt.accepted |= bool(seen.flags & Flags.SYN)
            attempt.refused |= bool(seen.flags & Flags.RST and not attempt.accepted)
        elif _opens(seen):
            attempt.syns += 1
            attempt.observed_syns += self.outgoing_seen
            self.outgoing_seen |= attempt.syns > 1
        else:
            attempt.token = attempt.token or token_of(seen.payload)
            if seen.flags & (Flags.FIN | Flags.RST) and attempt.first_seq is not None:
                attempt.sent = distance(attempt.first_seq, seen.seq) - 1 + len(seen.payload)

    def _begin(self, seen: Sighting, first_seq: int | None) -> Attempt:
        attempt = Attempt(seen.connection, first_seq, seen.time, seen.time)
        self._attempts[seen.connection] = attempt
        if len(self._attempts) > MAX_ATTEMPTS:
            self._attempts.popitem(last=False)
        return attempt


def _opens(seen: Sighting) -> bool:
    return not seen.outgoing and seen.flags & (Flags.SYN | Flags.ACK) == Flags.SYN
