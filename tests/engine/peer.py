"""The other end of a connection, for tests: it makes the segments that a client would send."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
KEY_AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


def request(token: str = TOKEN) -> bytes:
    return f"GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode()


def engine_for(*tokens: str) -> Engine:
    """Return an engine that answers for tokens, if any are given, else for TOKEN."""
    solver = Http01Solver()
    for token in tokens:
        solver.add(token, f"{token}.thumbprint")
    if not tokens:
        solver.add(TOKEN, KEY_AUTHORIZATION)
    return Engine([solver])


@dataclass
class Peer:
    """A client's side: what it sent, and what it has received in order."""

    seq: int = 1000
    ack: int = 5000
    address: str = "192.0.2.1"
    server: str = "192.0.2.80"
    port: int = 40000
    timestamps: Timestamps | None = None
    received: bytes = b""
    saw_fin: bool = False

    def segment(self, payload: bytes = b"", flags: Flags = Flags.ACK, **changes: Any) -> Segment:
        """Return a segment at the present place in the stream, without moving on."""
        segment = Segment(
            self.address, self.port, self.server, 80, self.seq, self.ack, flags, 502, payload, self.timestamps
        )
        return replace(segment, **changes)

    def send(self, payload: bytes = b"", flags: Flags = Flags.ACK, **changes: Any) -> Segment:
        """Return a segment and move on behind it."""
        segment = self.segment(payload, flags, **changes)
        occupied = len(payload) + bool(flags & Flags.FIN) + bool(flags & Flags.SYN)
        self.seq = advance(self.seq, occupied)
        return segment

    def take(self, *segments: Segment) -> None:
        """Receive segments that come in order."""
        for segment in segments:
            assert (segment.source, segment.destination) == (self.server, self.address)
            assert (segment.source_port, segment.destination_port) == (80, self.port)
            if segment.seq != self.ack:
                continue
            self.received += segment.payload
            fin = bool(segment.flags & Flags.FIN)
            self.saw_fin |= fin
            self.ack = advance(self.ack, len(segment.payload) + fin)

    @property
    def body(self) -> str:
        """The response's body."""
        return self.received.partition(b"\r\n\r\n")[2].decode()
