"""The sending side of a taken-over connection: what is written, and the FIN after the close, until acknowledged.

The handshake was the server's, so the scale of the peer's window (RFC 7323, 2.3) is unknown. A window that looks
smaller than what is to be sent is most likely a larger one, scaled. So everything is sent, unless the window is
closed, and only every second retransmission keeps to the window as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from certbot_standalone_nfq.wire.sequence import advance, distance

SEGMENT_SIZE = 524
"""Bytes in a segment: RFC 9293, 3.7.1's default of 536, as the peer's option is unknown, less timestamps."""
FIRST_TIMEOUT = 0.3
"""Seconds to the first retransmission: sooner than RFC 6298's one second, as validators give up after ten."""
MAX_TIMEOUTS = 5
"""Retransmissions by the timer, over nine seconds, without an acknowledgment of anything new; then no more follow."""
MAX_REPEATS = 10
"""Likewise, those that the peer's repeated segments ask for."""


class Piece(NamedTuple):
    """Part of what is to be sent: where it begins, its bytes, and whether the FIN follows them."""

    seq: int
    data: bytes
    fin: bool


class SendBuffer:
    """Positions are bytes from the first one that is written; the FIN is the byte after the last."""

    def __init__(self, first_seq: int, window: int) -> None:
        """Begin at the sequence number the peer expects; `window` is what it offers."""
        self._first_seq = first_seq
        self._window = window
        self._data = b""
        self.closed = False
        """Whether nothing more will be written."""
        self._acknowledged = 0
        self._sent = 0
        self._timeout = FIRST_TIMEOUT
        self._timeouts = 0
        self._unanswered = 0
        self._repeats = 0
        self.deadline = math.inf

    @property
    def next_seq(self) -> int:
        """The sequence number after all that was sent."""
        return advance(self._first_seq, self._sent)

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged all that was written, and the FIN if it is closed."""
        return self._acknowledged == self._end

    def write(self, data: bytes) -> None:
        """Have bytes sent after those that were written before. Not after `close`."""
        self._data += data

    def close(self) -> None:
        """Have the FIN sent after what was written."""
        self.closed = True

    @property
    def _end(self) -> int:
        return len(self._data) + self.closed

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
            self._unanswered = self._repeats = 0
            self.deadline = math.inf if self.idle else now + self._timeout
        return True

    def advance(self, now: float) -> list[Piece]:
        """Return what has not been sent yet and fits the window."""
        if self._sent == self._end:
            return []
        pieces = self._send(self._sent, self._end if self._window else self._sent)
        if pieces or self.deadline == math.inf:
            self.deadline = now + self._timeout
        return pieces

    def repeat(self, now: float) -> list[Piece]:
        """Return what is not acknowledged, to be sent again as the peer asks for it; nothing, if it does so often."""
        if self._repeats == MAX_REPEATS:
            return []
        self._repeats += 1
        if self.deadline != math.inf:
            self.deadline = now + self._timeout
        return self._repeat()

    def _repeat(self) -> list[Piece]:
        if self.idle:
            return []
        end = self._end
        if not self._window or self._timeouts % 2 == 0 < self._timeouts:
            end = self._acknowledged + max(1, self._window)  # a closed one is probed: RFC 9293, 3.8.6.1
        return self._send(self._acknowledged, end)

    def on_timeout(self, now: float) -> list[Piece]:
        """Return the same when the deadline has come, with a longer time to the next (RFC 6298, 5.5), if there is one.

        A source that never acknowledges anything may be forged.
        """
        self._timeouts += 1
        self._unanswered += 1
        self._timeout *= 2
        self.deadline = math.inf if self._unanswered == MAX_TIMEOUTS else now + self._timeout
        return self._repeat()

    def _send(self, start: int, end: int) -> list[Piece]:
        end = min(end, self._end)
        self._sent = max(self._sent, end)
        return list(self._pieces(start, end))

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        while start < end:
            data = self._data[start : min(start + SEGMENT_SIZE, end)]
            following = start + len(data)
            fin = self.closed and following == len(self._data) and end == self._end
            yield Piece(advance(self._first_seq, start), data, fin)
            start = following + fin
