"""The vocabulary of decisions: one verdict for each packet, segments to send, and what is worth telling."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from certbot_standalone_nfq.engine.protocols import Transport

if TYPE_CHECKING:  # scapy comes with it, and captures, which are loaded when Certbot lists plugins, need verdicts alone
    from certbot_standalone_nfq.engine.protocols import ChallengeId, Declined
    from certbot_standalone_nfq.wire.tcp import Connection, Segment


class Verdict(enum.Enum):
    """What becomes of a queued packet."""

    PASS = enum.auto()
    """Let it go on as if we were not there; the connection is of no interest any more."""
    WATCH = enum.auto()
    """Let it go on likewise, but show us the connection's further packets too."""
    REPLACE = enum.auto()
    """Let a reset go on in its place, so that the server's end of the connection we take over is closed."""
    DROP = enum.auto()
    """Let nothing go on: the packet was for us."""


@dataclass(frozen=True)
class Answered:
    """A challenge was asked for, and its answer is on the way."""

    challenge: ChallengeId
    connection: Connection
    forwarded_by: tuple[str, ...] = ()
    """What in the request only a proxy adds, in words."""
    transport: Transport = Transport.TCP
    seconds: float = 0.0
    """From the packet's arrival here to the answer's departure; the interception's clock knows."""
    name: str = ""
    """The name that it was asked under, if that decided."""


@dataclass(frozen=True)
class Begun:
    """A dialogue about a challenge has begun, which is not answered yet."""

    connection: Connection


@dataclass(frozen=True)
class Acknowledged:
    """The whole answer has arrived at the peer."""

    connection: Connection


Event = Union["Answered", "Begun", "Acknowledged", "Declined"]
"""What is worth telling."""


@dataclass(frozen=True)
class Reaction:
    """All that follows from one packet."""

    verdict: Verdict
    send: tuple[Segment, ...] = ()
    reset: Segment | None = None
    """With REPLACE, the segment that replaces the packet."""
    event: Event | None = None
