"""What a connection takes of memory, measured: strangers may send whatever they like."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from certbot_standalone_nfq.challenges.http01.conversation import MAX_HEAD
from certbot_standalone_nfq.engine.engine import MAX_KEPT, Engine
from certbot_standalone_nfq.engine.receive_buffer import WINDOW
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Flags, Timestamps, write
from tests.engine.peer import Peer, engine_for, request

PSH_ACK = Flags.PSH | Flags.ACK
PIECES = 1000
LONG_PROXY_HEADER = BINARY_SIGNATURE + b"\x21\x11" + (4080).to_bytes(2, "big") + bytes(4080)
DECISIVE, REST = request()[:60], b"x" * (MAX_HEAD - 61)


def flood(engine: Engine, port: int, in_order: tuple[bytes, ...], piece: int) -> Verdict:
    """Let a peer send parts in order, and then many pieces of a size with gaps between them, within the window."""
    peer = Peer(port=port, timestamps=Timestamps(1, 2))
    for part in in_order:
        engine.handle(write(peer.send(part, PSH_ACK)), 0.0)
    for ahead in range(1, WINDOW - piece + 1, piece + 1)[:PIECES]:
        segment = peer.segment(b"x" * piece, PSH_ACK, seq=advance(peer.seq, ahead))
        verdict = engine.handle(write(segment), 0.0).verdict
    return verdict


@pytest.mark.parametrize(
    ("in_order", "verdict"),
    [
        ((request()[:40],), Verdict.WATCH),
        ((LONG_PROXY_HEADER, request()[:40]), Verdict.WATCH),
        ((DECISIVE,), Verdict.DROP),
        ((DECISIVE, REST[:8000], REST[8000:16000], REST[16000:]), Verdict.DROP),
    ],
    ids=["watched", "watched behind a header", "taken over", "taken over with a head that does not end"],
)
@pytest.mark.parametrize("piece", [2, 255, WINDOW - 1])
def test_no_connection_takes_more_memory_than_the_bound(
    in_order: tuple[bytes, ...], verdict: Verdict, piece: int
) -> None:
    engine = engine_for()
    flood(engine, 1, in_order, piece)  # once, for what is kept in common
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        last = flood(engine, 2, in_order, piece)
        gc.collect()  # scapy's packets refer to each other
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last is verdict
    assert after - before <= MAX_KEPT
