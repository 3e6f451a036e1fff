"""The receiving side of a connection: the peer's bytes in order, and its FIN. It knows no protocol above TCP."""

from __future__ import annotations

from certbot_standalone_nfq.engine.reassembly import Reassembly
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance, distance
from certbot_standalone_nfq.wire.tcp import Segment

WINDOW = 8192
"""Bytes that we offer to take, and that we keep at most while an earlier one is missing."""
MAX_START = 16384
"""Bytes of a stream that may come before it is known what the stream is."""


class ReceiveBuffer:
    """What comes from the peer from one byte on."""

    def __init__(self, first_seq: int) -> None:
        """Begin at the sequence number of the first byte."""
        self._reassembly = Reassembly(first_seq, WINDOW)
        self._fin_seq: int | None = None
        self.unread = b""
        """What has come in order and has not been read."""

    @property
    def next_seq(self) -> int:
        """The sequence number expected next."""
        return self._reassembly.next_seq

    @property
    def closed(self) -> bool:
        """Whether the peer's FIN has come, and everything before it."""
        return self._fin_seq is not None and distance(self._fin_seq, self.next_seq) > 0

    def read(self) -> bytes:
        """Return what has come in order since the last call."""
        data, self.unread = self.unread, b""
        return data

    def repeats(self, segment: Segment) -> bool:
        """Whether a segment begins with what has come before."""
        return distance(segment.seq, self.next_seq) > 0

    def can_take(self, segment: Segment) -> bool:
        """Whether a segment lies where those of this stream's beginning can; if not, it is of a later connection."""
        return -MAX_START <= distance(self.next_seq, segment.seq) < WINDOW

    def add(self, segment: Segment) -> None:
        """Take a segment's bytes and FIN, in whatever order segments come."""
        if self.closed:
            return
        self.unread += self._reassembly.add(segment.seq, segment.payload)
        if segment.flags & Flags.FIN:
            self._fin_seq = advance(segment.seq, len(segment.payload))
        if self._fin_seq == self.next_seq:
            self._reassembly.add(self.next_seq, b"\0")  # a FIN occupies one sequence number
