"""Putting the bytes of one direction of a connection back in order."""

from __future__ import annotations

from certbot_standalone_nfq.wire.sequence import advance, distance

MAX_WAITING = 32
"""Pieces that wait for a gap. The objects that hold a piece take some 100 bytes, however small it is."""


class Reassembly:
    """Bytes from a first sequence number on, delivered in order, with a bound on what waits for a gap."""

    def __init__(self, next_seq: int, limit: int) -> None:
        """Start at `next_seq`; bytes `limit` or more beyond the next expected one are refused."""
        self.next_seq = next_seq
        self._limit = limit
        self._waiting: dict[int, bytes] = {}

    def add(self, seq: int, data: bytes) -> bytes:
        """Take bytes that begin at `seq`; return what has come into order, duplicates removed."""
        offset = distance(self.next_seq, seq)
        if offset > 0:
            self._keep(seq, data[: max(0, self._limit - offset)])
            return b""
        delivered = self._deliver(data[-offset : self._limit - offset])
        while self._waiting:
            following = self._take_following()
            if not following:
                break
            delivered += self._deliver(following)
        return delivered

    def _deliver(self, data: bytes) -> bytes:
        self.next_seq = advance(self.next_seq, len(data))
        return data

    def _keep(self, seq: int, data: bytes) -> None:
        """Keep bytes for later, the longest where several begin at one place, bounded in number and in all."""
        replaced = self._waiting.get(seq, b"")
        if len(data) <= len(replaced):
            return
        size = sum(map(len, self._waiting.values())) - len(replaced) + len(data)
        if size <= self._limit and (replaced or len(self._waiting) < MAX_WAITING):
            self._waiting[seq] = data

    def _take_following(self) -> bytes:
        """Return kept bytes that begin at the next expected one, after forgetting what has been passed."""
        for seq in list(self._waiting):
            passed = distance(seq, self.next_seq)
            if passed >= 0:
                data = self._waiting.pop(seq)[passed:]
                if data:
                    return data
        return b""
