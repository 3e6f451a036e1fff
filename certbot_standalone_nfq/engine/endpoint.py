"""The TCP endpoint of one taken-over connection: the parts of RFC 9293 that a short dialogue needs.

It begins with the segment that shows what the stream is; the handshake was the server's. So only what segments show
is known of what was negotiated: timestamps are in use if the peer's segments carry them, and the peer's window is
read as if it were unscaled, which is never more than it really is. The peer reads ours with the server's scale, so
more may come than we asked for; what does not fit is not acknowledged.

What to say is the conversation's business, and when to close. After both sides have closed, the endpoint lingers as
in TIME-WAIT, to acknowledge a FIN that comes again.
"""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq.engine.protocols import Conversation
from certbot_standalone_nfq.engine.receive_buffer import WINDOW
from certbot_standalone_nfq.engine.send_buffer import Piece, SendBuffer
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Begun, Reaction, Verdict
from certbot_standalone_nfq.engine.watched import Proof, Watched
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance, distance
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps

LINGER = 60.0
"""Seconds to acknowledge a repeated FIN after both sides have closed."""
LIFETIME = 120.0
"""Seconds after which a connection is forgotten, in whatever state it is."""
FAR = 1 << 20
"""Bytes from the expected sequence number that no segment of the same connection can be, as windows are smaller."""
LEAD = 20_000
"""Milliseconds that our clock is ahead of what the peer echoes, if the server has had pieces of the request.

It has acknowledged them with a later value, and the peer discards whatever is older (RFC 7323, 5.3): our answer, for as
long as a round trip takes, and the peer's pause before the request. Firewalls that check timestamps, as pf does, allow
for thirty seconds (PFTM_TS_DIFF).
"""

_SILENCE = Reaction(Verdict.DROP)


class Endpoint:
    """One connection from its takeover on. Times are seconds on the caller's monotonic clock."""

    def __init__(self, stream: Watched, segment: Segment, conversation: Conversation, now: float) -> None:
        """Take over at the segment that shows what the stream is, which has been added to it."""
        self._had_socket = stream.has_socket
        self._is_proven = stream.has_socket or stream.proof is Proof.NUMBERS
        self.interface = segment.interface
        self._connection = stream.connection
        self._incoming = stream.incoming
        self._outgoing = SendBuffer(segment.ack, segment.window)
        self._conversation = conversation
        lead = LEAD if stream.let_go else 0
        self._clock = TimestampClock(segment.timestamps, now, lead) if segment.timestamps else None
        self._expires_at = now + min(LIFETIME, conversation.seconds)
        self._closed = False
        self._answered = False
        self.settled = False
        """Whether the peer has our whole answer. Once that is so, it stays so."""

    def open(self, start: bytes, now: float) -> Reaction:
        """React to the beginning of the stream: answer it, or acknowledge it while more of it is needed."""
        event = self._converse(start) or Begun(self._connection)
        send = self._segments(self._outgoing.advance(now), now) or self._acknowledge(now)
        return Reaction(Verdict.DROP, send, event=event)

    @property
    def deadline(self) -> float:
        """When `tick` is due."""
        return min(self._outgoing.deadline, self._expires_at)

    def is_over(self, now: float) -> bool:
        """Whether there is nothing left to do for this connection."""
        return now >= self._expires_at

    def is_older_than(self, segment: Segment) -> bool:
        """Whether a segment belongs to a later connection between the same ports.

        Only after the peer's FIN can it: nothing new can follow that. A later connection begins with a higher sequence
        number (RFC 9293, 3.4.1): a SYN with a lower one is this connection's own, late or doubled. Before, a SYN may
        be forged; the peer that means it answers our acknowledgment with a reset (RFC 5961, 4.2).
        """
        beyond = distance(self._incoming.next_seq, segment.seq)
        return self._incoming.closed and (beyond >= 0 if segment.flags & Flags.SYN else beyond > 0)

    def is_contradicted_by(self, segment: Segment) -> bool:
        """Whether a segment shows that the peer's numbers are elsewhere, so that the takeover was a stranger's doing.

        If the server's socket has ended by our reset, or the capture has compared them, the numbers are proven: then,
        such a segment is a stranger's.
        """
        if self._is_proven or segment.flags & (Flags.SYN | Flags.RST) or not segment.flags & Flags.ACK:
            return False
        return self._is_far(segment)

    def is_passed_by(self, segment: Segment) -> bool:
        """Whether a segment may be of a later connection if a socket has one: that of this connection has ended."""
        return self._had_socket and (distance(self._incoming.next_seq, segment.seq) > 0 or self._is_far(segment))

    def _is_far(self, segment: Segment) -> bool:
        return abs(distance(self._incoming.next_seq, segment.seq)) > FAR

    def receive(self, segment: Segment, now: float) -> Reaction:
        """Take a segment of the peer."""
        if segment.flags & Flags.RST:
            return self._take_reset(segment, now)
        if segment.flags & Flags.SYN:  # RFC 9293, 3.10.7.4: so a peer that means it can reset us
            return Reaction(Verdict.DROP, self._acknowledge(now))
        if not segment.flags & Flags.ACK:
            return _SILENCE  # RFC 9293, 3.10.7.4: dropped
        if self._is_far(segment):  # likewise: not acceptable, so its acknowledgment does not count
            return Reaction(Verdict.DROP, self._acknowledge(now))
        if not self._outgoing.acknowledge(segment.ack, segment.window, now):
            return Reaction(Verdict.DROP, self._acknowledge(now))  # likewise: it acknowledges what was never sent
        settled = self._settle()
        repeated = self._incoming.repeats(segment)
        self._keep_time(segment)
        answered = self._take(segment)
        self._linger_if_closed(segment, now)
        return Reaction(Verdict.DROP, self._reply(segment, now, repeated=repeated), event=settled or answered)

    def tick(self, now: float) -> tuple[Segment, ...]:
        """Send again what is due to be sent again."""
        if now < self._outgoing.deadline:
            return ()
        return self._segments(self._outgoing.on_timeout(now), now)

    def _take_reset(self, segment: Segment, now: float) -> Reaction:
        beyond = distance(self._incoming.next_seq, segment.seq)
        if not 0 <= beyond < WINDOW:
            return _SILENCE
        if beyond:  # it may be forged; the peer that means it sends another (RFC 5961, 3.2)
            return Reaction(Verdict.DROP, self._acknowledge(now))
        self._expires_at = now
        if not segment.flags & Flags.ACK:
            return _SILENCE
        self._outgoing.acknowledge(segment.ack, segment.window, now)  # it may have read the answer before
        return Reaction(Verdict.DROP, event=self._settle())

    def _keep_time(self, segment: Segment) -> None:
        if self._clock and segment.timestamps and distance(self._incoming.next_seq, segment.seq) <= 0:
            self._clock.take(segment.timestamps)

    def _take(self, segment: Segment) -> Answered | None:
        """Take a segment's bytes and FIN, and let the conversation have what is new."""
        ended = self._incoming.closed
        self._incoming.add(segment)
        data = self._incoming.read()
        if self._outgoing.closed or not (data or (self._incoming.closed and not ended)):
            return None
        return self._converse(data)

    def _converse(self, data: bytes) -> Answered | None:
        output = self._conversation.receive(data, ended=self._incoming.closed)
        self._outgoing.write(output.data)
        if output.close:
            self._outgoing.close()
        answer = output.answer
        if answer is None:
            return None
        self._answered = True
        return Answered(answer.challenge, self._connection, answer.forwarded_by, name=answer.name)

    def _settle(self) -> Acknowledged | None:
        """Note that the peer has our whole answer, if that is so and was not before."""
        if self.settled or not self._outgoing.idle or not (self._answered or self._outgoing.closed):
            return None
        self.settled = True
        return Acknowledged(self._connection) if self._answered else None

    def _reply(self, segment: Segment, now: float, *, repeated: bool) -> tuple[Segment, ...]:
        # A peer that sends data again has not had our acknowledgment of it, so it does not have our answer either.
        again = repeated and segment.payload
        pieces = self._outgoing.repeat(now) if again else self._outgoing.advance(now)
        must_acknowledge = repeated or segment.payload or segment.flags & Flags.FIN
        return self._segments(pieces, now) or (self._acknowledge(now) if must_acknowledge else ())

    def _acknowledge(self, now: float) -> tuple[Segment, ...]:
        return self._segments([Piece(self._outgoing.next_seq, b"", fin=False)], now)

    def _linger_if_closed(self, segment: Segment, now: float) -> None:
        if not (self._incoming.closed and self._outgoing.closed and self._outgoing.idle):
            return
        if not self._closed or segment.flags & Flags.FIN:  # a FIN begins the time anew: RFC 9293, 3.10.7.4
            self._closed = True
            self._expires_at = now + LINGER

    def _segments(self, pieces: Sequence[Piece], now: float) -> tuple[Segment, ...]:
        return tuple(self._segment(piece, now) for piece in pieces)

    def _segment(self, piece: Piece, now: float) -> Segment:
        flags = Flags.ACK
        if piece.data:
            flags |= Flags.PSH
        if piece.fin:
            flags |= Flags.FIN
        return Segment(
            source=self._connection.local,
            source_port=self._connection.local_port,
            destination=self._connection.peer,
            destination_port=self._connection.peer_port,
            seq=piece.seq,
            ack=self._incoming.next_seq,
            flags=flags,
            window=WINDOW,
            payload=piece.data,
            timestamps=self._clock.read(now) if self._clock else None,
            interface=self.interface,
        )


class TimestampClock:
    """Our side of the timestamps option (RFC 7323, 4), continuing the server's clock."""

    def __init__(self, first: Timestamps, now: float, lead: int) -> None:
        """Begin with the peer's option, which echoes one of the server's values.

        The server's last one is at most `lead` milliseconds later. Ours must not go below it.
        """
        self._base = advance(first.echo, lead)
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
