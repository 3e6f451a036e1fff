"""Putting the octets of one direction of a connection back in order."""

from __future__ import annotations

from certbot_standalone_nfq.wire.sequence import advance, distance


class Reassembly:
    """Octets from a first sequence number on, delivered in order, with a bound on what waits for a gap."""

    def __init__(self, next_seq: int, limit: int) -> None:
        """Start at `next_seq`; octets `limit` or more beyond the next expected one are refused."""
        self.next_seq = next_seq
        self._limit = limit
        self._waiting: dict[int, bytes] = {}

    def add(self, seq: int, octets: bytes) -> bytes:
        """Take octets that begin at `seq`; return what has come into order, duplicates removed."""
        offset = distance(self.next_seq, seq)
        if offset > 0:
            self._keep(seq, octets[: max(0, self._limit - offset)])
            return b""
        delivered = self._deliver(octets[-offset : self._limit - offset])
        while True:
            following = self._take_following()
            if not following:
                return delivered
            delivered += self._deliver(following)

    def _deliver(self, octets: bytes) -> bytes:
        self.next_seq = advance(self.next_seq, len(octets))
        return octets

    def _keep(self, seq: int, octets: bytes) -> None:
        """Keep octets for later, the longest where several begin at one place, all together bounded."""
        if len(octets) <= len(self._waiting.get(seq, b"")):
            return
        waiting = {**self._waiting, seq: octets}
        if sum(map(len, waiting.values())) <= self._limit:
            self._waiting = waiting

    def _take_following(self) -> bytes:
        """Return kept octets that begin at the next expected one, after forgetting what has been passed."""
        for seq in list(self._waiting):
            passed = distance(seq, self.next_seq)
            if passed >= 0:
                octets = self._waiting.pop(seq)[passed:]
                if octets:
                    return octets
        return b""
