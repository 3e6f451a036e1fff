"""Datagrams that ask for a challenge, as the machine's edge shows them, ahead of any firewall rule."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Optional

from certbot_standalone_nfq.engine.protocols import ChallengeId, Question
from certbot_standalone_nfq.wire.tcp import Connection

MAX_QUERIES = 4096
"""Datagrams that are remembered; beyond it, the oldest is forgotten."""

QuestionIn = Callable[[bytes], Optional[Question]]
"""Returns what a datagram asks for, or None if it is no question."""


@dataclass(frozen=True)
class TappedDatagram:
    """A datagram on its way in. The connection is its two ends."""

    connection: Connection
    payload: bytes
    time: float
    """Seconds since the epoch."""
    packet: bytes = b""
    """What was captured of it, from its IP header on."""
    interface: str = ""


@dataclass(frozen=True)
class Query:
    """A question, and where it came from."""

    question: Question
    peer: str
    peer_port: int


class Queries:
    """The questions that came, a bounded number of them, each once whatever it was handed on by."""

    def __init__(self, question_in: QuestionIn) -> None:
        self._question_in = question_in
        self._queries: OrderedDict[Query, None] = OrderedDict()

    def observe(self, seen: TappedDatagram) -> None:
        """Take a datagram into account."""
        question = self._question_in(seen.payload)
        if question is None:
            return
        self._queries[Query(question, seen.connection.peer, seen.connection.peer_port)] = None
        if len(self._queries) > MAX_QUERIES:
            self._queries.popitem(last=False)

    def about(self, challenge: ChallengeId) -> Iterator[Query]:
        """Yield the queries for a challenge."""
        return (query for query in self._queries if query.question.challenge == challenge)
