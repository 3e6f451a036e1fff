"""Arbitrary packets from the internet, in any number and order, are handed to the engine, which runs as root.

The invariant: every packet gets exactly one verdict, nothing raises, a segment is sent only to the peer of a connection
that asked for a pending token, the engine keeps no more than its bounds allow, and when time has passed it keeps
nothing of what it answered.

A case is a file of packets, each after its length in two octets; a length of zero lets a second pass. `corpus/` holds
cases that reach each part of the engine, and those that once failed. Hypothesis cuts, joins and damages them; NFQ_FUZZ
sets how often.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.conversation import MAX_HEAD
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX
from certbot_standalone_nfq.engine.endpoint import LIFETIME, LINGER
from certbot_standalone_nfq.engine.receive_buffer import ReceiveBuffer
from certbot_standalone_nfq.engine.verdicts import Answered, Verdict
from certbot_standalone_nfq.wire.proxy_protocol import without_header
from certbot_standalone_nfq.wire.tcp import Connection
from tests.engine.kept import kept_by
from tests.engine.peer import TOKEN, engine_for

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
CASES = [path.read_bytes() for path in CORPUS]
INPUTS = int(os.environ.get("NFQ_FUZZ", "1000"))


def packets(case: bytes) -> Iterator[bytes]:
    """Yield the packets of a case; an empty one is a second of time."""
    while case:
        length = int.from_bytes(case[:2], "big")
        yield case[2 : 2 + length]
        case = case[2 + length :]


def check(case: bytes) -> set[Verdict]:
    """Hold the engine to the invariant over one case; return the verdicts there were."""
    engine, now, asked = engine_for(), 0.0, set[Connection]()
    verdicts = set()
    for packet in packets(case):
        if packet:
            reaction = engine.handle(packet, now)
            sent = reaction.send
            assert isinstance(reaction.verdict, Verdict)
            assert (reaction.reset is not None) == (reaction.verdict is Verdict.REPLACE)
            verdicts.add(reaction.verdict)
            if reaction.reset:
                asked.add(reaction.reset.connection)
            if isinstance(reaction.event, Answered):
                assert reaction.event.connection in asked
        else:
            now += 1
            sent = engine.tick(now)
        for segment in sent:
            assert (
                Connection(segment.destination, segment.destination_port, segment.source, segment.source_port) in asked
            )
    beginnings = [without_header(stream.unread) for stream in kept_by(engine, ReceiveBuffer)]
    assert all(len(beginning) <= len(REQUEST_PREFIX) + len(TOKEN) for beginning in beginnings)
    assert all(len(kept) <= MAX_HEAD for kept in kept_by(engine, bytes))
    engine.tick(now + LIFETIME + LINGER)
    assert engine.deadline() is None
    return verdicts


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus_holds_the_invariant(path: Path) -> None:
    check(path.read_bytes())


def test_the_corpus_reaches_every_verdict() -> None:
    assert set().union(*map(check, CASES)) == set(Verdict)


@st.composite
def variations(draw: st.DrawFn) -> bytes:
    """Packets of several cases in some order, some doubled, cut short or damaged."""
    pool = [
        packet for case in draw(st.lists(st.sampled_from(CASES), min_size=1, max_size=3)) for packet in packets(case)
    ]
    chosen = draw(st.lists(st.sampled_from(pool) | st.binary(max_size=80), max_size=25))
    case = b""
    for packet in chosen:
        changed = bytearray(packet)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3])) if changed else 0):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
        case += len(changed).to_bytes(2, "big") + changed
    return case[: draw(st.sampled_from([len(case), len(case), len(case) // 2]))]


@settings(max_examples=INPUTS, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=variations())
def test_variations_of_the_corpus_hold_the_invariant(case: bytes) -> None:
    check(case)
