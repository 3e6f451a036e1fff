"""The receiving side of a connection that may carry a challenge request: its octets in order, and its FIN."""

from __future__ import annotations

from certbot_standalone_nfq.challenges.http01.solver import has_whole_head
from certbot_standalone_nfq.engine.reassembly import Reassembly
from certbot_standalone_nfq.wire.proxy_protocol import without_header
from certbot_standalone_nfq.wire.sequence import advance, distance
from certbot_standalone_nfq.wire.tcp import Flags, Segment

WINDOW = 8192
"""Octets we offer to take, and keep at most while an earlier one is missing."""
MAX_HEAD = 16384
"""Octets of a request's head after which it counts as whole; no more are kept."""


class ReceiveBuffer:
    """What has come from the peer since the octet with which the request begins."""

    def __init__(self, first_seq: int) -> None:
        """Begin at the sequence number of the request's first octet."""
        self._reassembly = Reassembly(first_seq, WINDOW)
        self._fin_seq: int | None = None
        self._octets = b""

    @property
    def head(self) -> bytes:
        """The request as far as it has come, without what a load balancer may have sent ahead of it."""
        return without_header(self._octets)

    @property
    def next_seq(self) -> int:
        """The sequence number expected next."""
        return self._reassembly.next_seq

    @property
    def closed(self) -> bool:
        """Whether the peer's FIN has come, and everything before it."""
        return self._fin_seq is not None and distance(self._fin_seq, self.next_seq) > 0

    @property
    def whole(self) -> bool:
        """Whether there is nothing more to wait for before the answer."""
        return self.closed or len(self._octets) >= MAX_HEAD or has_whole_head(self.head)

    def repeats(self, segment: Segment) -> bool:
        """Tell whether a segment begins with what has come before."""
        return distance(segment.seq, self.next_seq) > 0

    def can_take(self, segment: Segment) -> bool:
        """Tell whether a segment lies where this request's segments can; else it is of a later connection."""
        return -MAX_HEAD <= distance(self.next_seq, segment.seq) < WINDOW

    def add(self, segment: Segment) -> None:
        """Take a segment's octets and FIN, in whatever order they come."""
        if self.closed:
            return
        delivered = self._reassembly.add(segment.seq, segment.payload)
        self._octets = (self._octets + delivered)[:MAX_HEAD]
        if segment.flags & Flags.FIN:
            self._fin_seq = advance(segment.seq, len(segment.payload))
        if self._fin_seq == self.next_seq:
            self._reassembly.add(self.next_seq, b"\0")  # a FIN occupies one sequence number
