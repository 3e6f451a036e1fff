"""The TCP endpoint of one taken-over connection: RFC 9293 as far as answering one request needs it.

It begins when the request's segment arrives; the handshake was the web server's. So what was negotiated
is known only as far as segments show it: timestamps are in use if the peer's segments carry them, and the peer's
window is read as if it were unscaled, which is never more than it really is. The peer reads ours with
the web server's scale, so more may come than we asked for; what does not fit is not acknowledged.

The FIN follows the answer at once. After both sides have closed, the endpoint lingers as in TIME-WAIT, to
acknowledge a FIN that comes again.
"""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq.challenges.http01.solver import Challenge
from certbot_standalone_nfq.engine.receive_buffer import WINDOW, ReceiveBuffer
from certbot_standalone_nfq.engine.send_buffer import Piece, SendBuffer
from certbot_standalone_nfq.wire.sequence import advance, distance
from certbot_standalone_nfq.wire.tcp import Flags, Segment, Timestamps

LINGER = 60.0
"""Seconds to acknowledge a repeated FIN after both sides have closed."""
LIFETIME = 120.0
"""Seconds after which a connection is given up, whatever state it is in."""


class Endpoint:
    """One connection from its request on. Times are seconds on the caller's monotonic clock."""

    def __init__(self, segment: Segment, request: ReceiveBuffer, challenge: Challenge, now: float) -> None:
        """Take over at the segment that shows what the request is, which has been added to the request."""
        self._connection = segment.connection
        self._interface = segment.interface
        self._request = request
        self._challenge = challenge
        self._outgoing = SendBuffer(segment.ack, segment.window)
        self._clock = TimestampClock(segment.timestamps, now) if segment.timestamps else None
        self._expires_at = now + LIFETIME
        self._closed = False

    def open(self, now: float) -> tuple[Segment, ...]:
        """Return what to send on taking over: the answer, or an acknowledgment while the head is not whole."""
        return self._respond(now, must_acknowledge=True)

    @property
    def deadline(self) -> float:
        """When `tick` is due."""
        return min(self._outgoing.deadline, self._expires_at)

    @property
    def settled(self) -> bool:
        """Whether the peer has our whole answer."""
        return self._outgoing.complete

    def is_over(self, now: float) -> bool:
        """Tell whether there is nothing left to do for this connection."""
        return now >= self._expires_at

    def is_older_than(self, segment: Segment) -> bool:
        """Tell whether a segment belongs to a later connection between the same ports.

        A later connection begins with a higher sequence number (RFC 9293, 3.4.1): a SYN with a lower one is this
        connection's own, late or doubled. Its SYN may not have come to us, but nothing new can follow the peer's FIN.
        """
        beyond = distance(self._request.next_seq, segment.seq)
        return beyond >= 0 if segment.flags & Flags.SYN else self._request.closed and beyond > 0

    def receive(self, segment: Segment, now: float) -> tuple[Segment, ...]:
        """Take a segment of the peer; return what to send to it."""
        if segment.flags & Flags.RST:
            self._take_reset(segment, now)
            return ()
        if segment.flags & Flags.SYN:
            return self._acknowledge(now)  # RFC 9293, 3.10.7.4: so a peer that means it can reset us
        if not segment.flags & Flags.ACK:
            return ()  # RFC 9293, 3.10.7.4: dropped
        if not self._outgoing.acknowledge(segment.ack, segment.window, now):
            return self._acknowledge(now)  # likewise: it acknowledges what was never sent
        repeated = self._request.repeats(segment)
        if self._clock and segment.timestamps and distance(self._request.next_seq, segment.seq) <= 0:
            self._clock.take(segment.timestamps)
        self._request.add(segment)
        self._linger_if_closed(segment, now)
        if repeated and segment.payload:
            # The peer repeats what it thinks we have not got, so it has not got our answer either.
            return self._segments(self._outgoing.repeat(now), now) or self._acknowledge(now)
        must_acknowledge = bool(repeated or segment.payload or segment.flags & Flags.FIN)
        return self._respond(now, must_acknowledge=must_acknowledge)

    def tick(self, now: float) -> tuple[Segment, ...]:
        """Send again what is due to be sent again."""
        if now < self._outgoing.deadline:
            return ()
        return self._segments(self._outgoing.on_timeout(now), now)

    def _take_reset(self, segment: Segment, now: float) -> None:
        # Any reset within the window ends it (RFC 9293, 3.5.3): a forged one costs no more than one answer.
        if 0 <= distance(self._request.next_seq, segment.seq) < WINDOW:
            if segment.flags & Flags.ACK:  # it may have read the answer all the same
                self._outgoing.acknowledge(segment.ack, segment.window, now)
            self._expires_at = now

    def _respond(self, now: float, *, must_acknowledge: bool) -> tuple[Segment, ...]:
        if self._request.whole and not self._outgoing.begun:
            self._outgoing.begin(self._challenge.respond(self._request.head))
        segments = self._segments(self._outgoing.advance(now), now)
        return segments or (self._acknowledge(now) if must_acknowledge else ())

    def _acknowledge(self, now: float) -> tuple[Segment, ...]:
        return self._segments([Piece(self._outgoing.next_seq, b"", fin=False)], now)

    def _linger_if_closed(self, segment: Segment, now: float) -> None:
        if not (self._request.closed and self._outgoing.complete):
            return
        if not self._closed or segment.flags & Flags.FIN:  # a FIN begins the time anew: RFC 9293, 3.10.7.4
            self._closed = True
            self._expires_at = now + LINGER

    def _segments(self, pieces: Sequence[Piece], now: float) -> tuple[Segment, ...]:
        return tuple(self._segment(piece, now) for piece in pieces)

    def _segment(self, piece: Piece, now: float) -> Segment:
        flags = Flags.ACK
        if piece.octets:
            flags |= Flags.PSH
        if piece.fin:
            flags |= Flags.FIN
        return Segment(
            source=self._connection.local,
            source_port=self._connection.local_port,
            destination=self._connection.peer,
            destination_port=self._connection.peer_port,
            seq=piece.seq,
            ack=self._request.next_seq,
            flags=flags,
            window=WINDOW,
            payload=piece.octets,
            timestamps=self._clock.read(now) if self._clock else None,
            interface=self._interface,
        )


class TimestampClock:
    """Our side of the timestamps option (RFC 7323, 4), continuing the web server's clock."""

    def __init__(self, first: Timestamps, now: float) -> None:
        """Begin with the peer's option. It echoes the server's last value, below which ours must not go."""
        self._base = first.echo
        self._started = now
        self._recent = first.value

    def take(self, stamp: Timestamps) -> None:
        """Remember the value to echo, of a segment that left no gap (RFC 7323, 4.3)."""
        if distance(self._recent, stamp.value) >= 0:
            self._recent = stamp.value

    def read(self, now: float) -> Timestamps:
        """Return the option for a segment sent now; our clock counts milliseconds."""
        elapsed = int((now - self._started) * 1000)
        return Timestamps(value=advance(self._base, elapsed), echo=self._recent)
