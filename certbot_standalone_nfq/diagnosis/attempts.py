"""Attempts to connect to the port, as segments at the machine's edge show them.

Only the segments that open, refuse or close a connection are seen, and those that begin like a challenge request; what
goes out is seen only from the moment on that a client seems to wait in vain. A connection that its client closes
after sending something is ordinary traffic, and is forgotten. What stays is what may explain a failure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Optional

from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import distance
from certbot_standalone_nfq.wire.tcp import Connection

MAX_ATTEMPTS = 4096
"""Connections; beyond it, the oldest is forgotten."""
MAX_PACKETS = 8
"""Packets kept of a connection, if any are to be kept."""
_MAX_ADDRESSES = 256
"""Destinations to count connections of; a router has many more that are not its own."""

ChallengeIn = Callable[[bytes], Optional[ChallengeId]]
"""Returns the challenge that a payload asks for, or None if it asks for none."""

IsAltered = Callable[[bytes], bool]
"""Returns whether such a payload has something added that no CA adds."""


@dataclass(frozen=True)
class TappedSegment:
    """A segment at the machine's edge, before any firewall rule. The connection is the client's, either way."""

    connection: Connection
    seq: int
    flags: Flags
    payload: bytes
    outgoing: bool
    time: float
    """Seconds since the epoch."""
    packet: bytes = b""
    """What was captured of it, from its IP header on."""
    interface: str = ""
    """The one it was seen on; what a bridge or a bond hands on is seen on each."""


@dataclass(frozen=True)
class Kept:
    """A packet for a capture file."""

    time: float
    opening: bool
    """Whether it carries a SYN."""
    packet: bytes


@dataclass
class Attempt:
    """One connection, or one that did not come about."""

    connection: Connection
    first_seq: int | None
    """The sequence number of the client's SYN, if that was seen."""
    interface: str
    """The interface that it came in by."""
    syns: int = 0
    """How often its SYN came. Twice or more: the client did not get an answer to it."""
    observed_syns: int = 0
    """Those of them that came when it was seen what goes out."""
    accepted: bool = False
    """A SYN-ACK was seen to leave this machine."""
    refused: bool = False
    """A reset left instead."""
    sent: int | None = None
    """Bytes that the client had sent when it closed the connection."""
    challenge: ChallengeId | None = None
    """The one that it asked for, if it did."""
    altered: bool = False
    """Whether it asked with something added that no CA adds, and so got no answer."""
    packets: list[Kept] = field(default_factory=list)


class Attempts:
    """The attempts that may explain a failure, a bounded number of them."""

    def __init__(
        self,
        challenge_in: ChallengeIn,
        is_altered: IsAltered = lambda _: False,
        *,
        outgoing_seen: bool = False,
        keep_packets: bool = False,
    ) -> None:
        self._challenge_in = challenge_in
        self._is_altered = is_altered
        self._attempts: OrderedDict[Connection, Attempt] = OrderedDict()
        self._keep_packets = keep_packets
        self.arrivals: Counter[str] = Counter()
        """Connections that clients elsewhere wanted to open, by the address they were for."""
        self.served: Counter[str] = Counter()
        """Those of them that were ordinary traffic."""
        self.outgoing_seen = outgoing_seen
        """Whether all that goes out is seen; who sees to that says so here."""
        self.outgoing_wanted = outgoing_seen
        """Whether it should be, as a client has repeated its SYN."""

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts.values())

    def observe(self, seen: TappedSegment) -> None:
        """Take a segment into account, in the order they were seen."""
        if seen.connection.peer == seen.connection.local:
            return  # this machine looks after itself
        attempt = self._attempts.get(seen.connection)
        if _opens(seen) and (attempt is None or attempt.first_seq != seen.seq):
            attempt = self._begin(seen, seen.seq)
            _count(self.arrivals, seen.connection.local)
        elif attempt is None:
            if seen.outgoing or not seen.payload:
                return  # the end of a connection that was there before us
            attempt = self._begin(seen, None)
        if not seen.outgoing and seen.interface != attempt.interface:
            return  # the same packet, handed on from one interface to another
        self._note(attempt, seen)
        if attempt.sent and attempt.challenge is None:
            _count(self.served, seen.connection.local)
            del self._attempts[seen.connection]

    def _note(self, attempt: Attempt, seen: TappedSegment) -> None:
        if self._keep_packets and len(attempt.packets) < MAX_PACKETS:
            attempt.packets.append(Kept(seen.time, bool(seen.flags & Flags.SYN), seen.packet))
        if seen.outgoing:
            attempt.accepted |= bool(seen.flags & Flags.SYN)
            attempt.refused |= bool(seen.flags & Flags.RST and not attempt.accepted)
        elif _opens(seen):
            attempt.syns += 1
            attempt.observed_syns += self.outgoing_seen
            self.outgoing_wanted |= attempt.syns > 1
        else:
            attempt.challenge = attempt.challenge or self._challenge_in(seen.payload)
            attempt.altered |= self._is_altered(seen.payload)
            if seen.flags & (Flags.FIN | Flags.RST) and attempt.first_seq is not None:
                attempt.sent = distance(attempt.first_seq, seen.seq) - 1 + len(seen.payload)

    def _begin(self, seen: TappedSegment, first_seq: int | None) -> Attempt:
        self._attempts.pop(seen.connection, None)
        attempt = self._attempts[seen.connection] = Attempt(seen.connection, first_seq, seen.interface)
        if len(self._attempts) > MAX_ATTEMPTS:
            self._attempts.popitem(last=False)
        return attempt


def _opens(seen: TappedSegment) -> bool:
    return not seen.outgoing and seen.flags & (Flags.SYN | Flags.ACK) == Flags.SYN


def _count(counter: Counter[str], address: str) -> None:
    if address in counter or len(counter) < _MAX_ADDRESSES:
        counter[address] += 1
