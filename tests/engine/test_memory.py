"""What a connection takes of memory, measured: strangers may send whatever they like."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from certbot_standalone_nfq.challenges.http01.conversation import MAX_HEAD
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.diagnosis.attempts import MAX_ATTEMPTS
from certbot_standalone_nfq.engine.engine import MAX_TAKEN_OVER, MAX_WATCHED, Engine
from certbot_standalone_nfq.engine.protocols import UNDECIDED, Recognition
from certbot_standalone_nfq.engine.receive_buffer import MAX_START, WINDOW
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Timestamps, write
from tests.engine.peer import Peer, engine_for, request

PSH_ACK = Flags.PSH | Flags.ACK
LIMITS = Path(__file__).parents[2] / "docs" / "limits.md"
PROMISED = 32 * 1024
"""Bytes of memory for a connection: its data, and the objects that hold them."""
PIECES = 1000
LONG_PROXY_HEADER = BINARY_SIGNATURE + b"\x21\x11" + (4080).to_bytes(2, "big") + bytes(4080)
DECISIVE, REST = request()[:60], b"x" * (MAX_HEAD - 61)


class Patient(Http01Solver):
    """Cannot tell what a stream is, however much of it has come."""

    def recognise(self, start: bytes) -> Recognition:
        return UNDECIDED


def flood(engine: Engine, port: int, in_order: tuple[bytes, ...], piece: int, then: bytes = b"") -> Verdict:
    """Let a peer send parts in order, many pieces of a size with gaps between them, within the window, and the next."""
    peer = Peer(port=port, timestamps=Timestamps(1, 2))
    for part in in_order:
        engine.handle(write(peer.send(part, PSH_ACK)), 0.0)
    for ahead in range(1 + len(then), WINDOW - piece + 1, piece + 1)[:PIECES]:
        segment = peer.segment(b"x" * piece, PSH_ACK, seq=advance(peer.seq, ahead))
        engine.handle(write(segment), 0.0)
    return engine.handle(write(peer.send(then, PSH_ACK)), 0.0).verdict


def taken_by_flood(engine: Engine, in_order: tuple[bytes, ...], piece: int, then: bytes = b"") -> tuple[int, Verdict]:
    """Return the bytes of memory that such a connection takes, and the last verdict."""
    flood(engine, 1, in_order, piece, then)  # once, for what is kept in common
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        last = flood(engine, 2, in_order, piece, then)
        gc.collect()  # scapy's packets refer to each other
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before, last


@pytest.mark.parametrize(
    ("in_order", "verdict"),
    [
        ((request()[:40],), Verdict.WATCH),
        ((LONG_PROXY_HEADER, request()[:40]), Verdict.WATCH),
        ((DECISIVE,), Verdict.DROP),
        ((DECISIVE, *(REST[at : at + 8000] for at in range(0, len(REST), 8000))), Verdict.DROP),
    ],
    ids=["watched", "watched behind a header", "taken over", "taken over with a head that does not end"],
)
@pytest.mark.parametrize("piece", [2, 255, WINDOW - 1])
def test_no_connection_takes_more_memory_than_the_bound(
    in_order: tuple[bytes, ...], verdict: Verdict, piece: int
) -> None:
    taken, last = taken_by_flood(engine_for(), in_order, piece)
    assert last is verdict
    assert taken <= PROMISED


@pytest.mark.parametrize("piece", [2, 255, WINDOW - 2])
def test_a_stream_that_stays_undecided_takes_no_more_memory_either(piece: int) -> None:
    in_order = (b"x" * (MAX_START // 2), b"x" * (MAX_START // 2 - 2))
    taken, last = taken_by_flood(Engine([Patient()]), in_order, piece, then=b"x")
    assert last is Verdict.WATCH
    assert taken <= PROMISED


def test_the_page_about_limits_gives_the_bounds_that_hold() -> None:
    words = " ".join(LIMITS.read_text().split())
    connections = f"{MAX_WATCHED:,} undecided and {MAX_TAKEN_OVER:,} answered connections"
    assert f"{connections}, {PROMISED // 1024} KiB of memory each" in words
    assert f"only counters for {MAX_ATTEMPTS:,} idle ones" in words
