"""The sending side of a taken-over connection: one answer and the FIN behind it, until acknowledged.

The handshake was the web server's, so the scale of the peer's window (RFC 7323, 2.3) is unknown. A window that
looks smaller than the answer is most likely a larger one, scaled; the answer is sent whole all the same, unless
the window is closed, and only every second retransmission keeps to the window as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from certbot_standalone_nfq.wire.sequence import advance, distance

SEGMENT_SIZE = 524
"""Octets in a segment: RFC 9293, 3.7.1's default of 536, as the peer's option is unknown, less timestamps."""
FIRST_TIMEOUT = 0.3
"""Seconds to the first retransmission: sooner than RFC 6298's one second, as validators give up after ten."""
MAX_TIMEOUT = 8.0


class Piece(NamedTuple):
    """Part of what is to be sent: where it begins, its octets, and whether the FIN follows them."""

    seq: int
    octets: bytes
    fin: bool


class SendBuffer:
    """Positions are octets from the first one of the answer; the FIN is the octet after the last."""

    def __init__(self, first_seq: int, window: int) -> None:
        """Begin at the sequence number the peer expects; `window` is what it offers."""
        self._first_seq = first_seq
        self._window = window
        self._answer = b""
        self._length = 0
        self._acknowledged = 0
        self._sent = 0
        self._timeout = FIRST_TIMEOUT
        self._timeouts = 0
        self.deadline = math.inf

    @property
    def next_seq(self) -> int:
        """The sequence number after all that was sent."""
        return advance(self._first_seq, self._sent)

    @property
    def begun(self) -> bool:
        """Whether there is an answer."""
        return self._length > 0

    @property
    def complete(self) -> bool:
        """Whether the peer has acknowledged the answer and the FIN."""
        return self.begun and self._acknowledged == self._length

    def begin(self, answer: bytes) -> None:
        """Take the answer to be sent."""
        self._answer = answer
        self._length = len(answer) + 1

    def acknowledge(self, ack: int, window: int, now: float) -> bool:
        """Take the peer's acknowledgment and window; return False if it acknowledges what was never sent."""
        acknowledged = distance(self._first_seq, ack)
        if acknowledged > self._sent:
            return False
        if acknowledged < self._acknowledged:
            return True  # an old segment, whose window is old too
        self._window = window
        if acknowledged > self._acknowledged:
            self._acknowledged = acknowledged
            self._timeout = FIRST_TIMEOUT
            self.deadline = math.inf if self.complete else now + self._timeout
        return True

    def advance(self, now: float) -> list[Piece]:
        """Return what has not been sent yet and fits the window."""
        if self._sent == self._length:
            return []
        pieces = self._send(self._sent, self._length if self._window else self._sent)
        if pieces or self.deadline == math.inf:
            self.deadline = now + self._timeout
        return pieces

    def repeat(self, now: float) -> list[Piece]:
        """Return what is not acknowledged, to be sent again."""
        if not self.begun or self.complete:
            return []
        self.deadline = now + self._timeout
        end = self._length
        if not self._window or self._timeouts % 2 == 0 < self._timeouts:
            end = self._acknowledged + max(1, self._window)  # a closed one is probed: RFC 9293, 3.8.6.1
        return self._send(self._acknowledged, end)

    def on_timeout(self, now: float) -> list[Piece]:
        """Return the same when the deadline has come, with a longer time to the next (RFC 6298, 5.5)."""
        self._timeouts += 1
        self._timeout = min(self._timeout * 2, MAX_TIMEOUT)
        return self.repeat(now)

    def _send(self, start: int, end: int) -> list[Piece]:
        end = min(end, self._length)
        self._sent = max(self._sent, end)
        return list(self._pieces(start, end))

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        while start < end:
            octets = self._answer[start : min(start + SEGMENT_SIZE, end)]
            following = start + len(octets)
            fin = following == len(self._answer) and end == self._length
            yield Piece(advance(self._first_seq, start), octets, fin)
            start = following + fin
