"""What was seen of the CA's requests, as values: at the machine's edge, and by the interception."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from certbot_standalone_nfq.diagnosis.attempts import Attempt, Attempts, ChallengeIn, IsAltered, Kept, TappedSegment
from certbot_standalone_nfq.diagnosis.queries import Queries, Query, QuestionIn, TappedDatagram
from certbot_standalone_nfq.engine.protocols import ChallengeId, Transport
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Begun
from certbot_standalone_nfq.wire.tcp import Connection

MAX_REQUESTS = 256
"""Answered requests that are remembered for each challenge; what is beyond is only counted."""
MAX_BEGUN = 4096
"""Connections taken over that are remembered."""


@dataclass
class Request:
    """A challenge request that was answered. Times are seconds."""

    connection: Connection
    seconds: float
    """From its arrival to the answer's departure."""
    forwarded_by: tuple[str, ...] = ()
    """What in it only a proxy adds: for http-01, the names of headers."""
    acknowledged: bool = False
    """Whether the whole answer arrived; over UDP, that is not known."""
    transport: Transport = Transport.TCP


@dataclass
class Seen:
    """All there is to go by for one challenge."""

    requests: list[Request] = field(default_factory=list)
    count: int = 0
    """Of all answered requests."""
    unanswered: list[Attempt] = field(default_factory=list)
    """Connections that asked for the challenge at the edge and not of us."""
    queries: list[Query] = field(default_factory=list)
    """Datagrams that asked for it at the edge, but those that we answered."""
    unfinished: list[Attempt] = field(default_factory=list)
    """Connections that asked us for it, whose dialogue has not come to its end."""


class Evidence:
    """What has been seen. Whoever shares it between threads guards it: no two calls may run at once."""

    def __init__(
        self,
        challenge_in: ChallengeIn,
        is_altered: IsAltered = lambda _: False,
        question_in: QuestionIn = lambda _: None,
        *,
        capture: bool = False,
    ) -> None:
        """Begin with nothing; for a capture, packets are kept and what goes out is seen from the beginning."""
        self._seen: dict[ChallengeId, Seen] = {}
        self._requests: dict[Connection, Request] = {}
        self._begun: OrderedDict[tuple[str, int], None] = OrderedDict()
        """The clients' ends of connections that the interception has taken over."""
        self._queries = Queries(question_in)
        self._attempts = Attempts(challenge_in, is_altered, outgoing_seen=capture, keep_packets=capture)

    def record(self, event: Answered | Begun | Acknowledged) -> int:
        """Take note of what the interception did; return how many requests for the challenge it has answered."""
        if isinstance(event, Begun):
            self._note_begun(event.connection)
            return 0
        if isinstance(event, Acknowledged):
            if event.connection in self._requests:
                self._requests[event.connection].acknowledged = True
            return 0
        seen = self._seen.setdefault(event.challenge, Seen())
        seen.count += 1
        if seen.count <= MAX_REQUESTS:
            request = Request(event.connection, event.seconds, event.forwarded_by, transport=event.transport)
            seen.requests.append(request)
            self._requests[event.connection] = request
        return seen.count

    def _note_begun(self, connection: Connection) -> None:
        self._begun[_client(connection)] = None
        if len(self._begun) > MAX_BEGUN:
            self._begun.popitem(last=False)

    def observe(self, sighting: TappedSegment | TappedDatagram) -> bool:
        """Take note of a packet at the machine's edge; return whether what goes out should be looked at, too."""
        if isinstance(sighting, TappedDatagram):
            self._queries.observe(sighting)
        else:
            self._attempts.observe(sighting)
        return self._attempts.outgoing_wanted

    def outgoing_is_seen(self) -> None:
        """Take note that all that goes out from now on will be seen."""
        self._attempts.outgoing_seen = True

    def seen(self, challenge: ChallengeId) -> Seen:
        """Return what there is for a challenge."""
        seen = copy.deepcopy(self._seen.get(challenge, Seen()))
        answered = {_client(request.connection) for request in seen.requests}
        queries = self._queries.about(challenge)
        seen.queries = [query for query in queries if (query.peer, query.peer_port) not in answered]
        for attempt in self._attempts:
            client = _client(attempt.connection)
            if attempt.challenge == challenge and client not in answered:
                (seen.unfinished if client in self._begun else seen.unanswered).append(attempt)
        return seen

    def attempts(self) -> list[Attempt]:
        """Return the connections, or attempts at one, that may explain why no request came."""
        return [copy.copy(attempt) for attempt in self._attempts if attempt.challenge is None]

    def packets(self) -> list[Kept]:
        """Return the packets at the edge that belong to validations, or to attempts that came to nothing.

        Of answered connections only the opening is among them: the rest the interception has itself.
        """
        answered = set(map(_client, self._requests))
        return [
            kept
            for attempt in self._attempts
            for kept in attempt.packets
            if kept.opening or _client(attempt.connection) not in answered
        ]

    def arrivals(self) -> Counter[str]:
        """Return how many connections others wanted to open, by the address they were for."""
        return Counter(self._attempts.arrivals)

    def served(self) -> Counter[str]:
        """Return how many of them brought data, likewise."""
        return Counter(self._attempts.served)


def _client(connection: Connection) -> tuple[str, int]:
    """Return the end that is the same at the edge and behind a translation of our own addresses."""
    return connection.peer, connection.peer_port
