"""Arbitrary packets from the internet go through the program, in any number and order, and what it takes to the engine.

The invariant: a packet that is not handed over passes as it came. Of what is handed over, the program leaves nothing
but a reset for the server, and the engine takes over exactly the connections that the program has taken.

The cases are the engine's, and requests cut, joined and damaged here. NFQ_FUZZ sets how often.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certbot_standalone_nfq.capture.ebpf.code import DROP, NEXT
from certbot_standalone_nfq.capture.ebpf.layout import CONTROL, Kind
from certbot_standalone_nfq.capture.ebpf.records import TakenPacket
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.tcp import connection_of, locate, parse, read_control, write
from lab.ebpf import Bench, Outcome, bench, key_of
from tests.engine.peer import TOKEN, Peer, engine_for, request
from tests.engine.test_fuzz import CASES, packets
from tests.wire.proxies import PROXY_HEADERS

pytestmark = pytest.mark.root
INPUTS = int(os.environ.get("NFQ_FUZZ", "1000")) // 4
PSH_ACK = Flags.PSH | Flags.ACK
_SHORTEST, _LONGEST = 40, 3500
"""Bytes of packets that the kernel runs programs on."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[Bench]:
    with bench(Http01Solver.selectors(80)) as made:
        made.expect(f"{TOKEN} HTTP/1.".encode())
        yield made


def check(loaded: Bench, case: list[bytes]) -> set[Kind]:
    """Hold program and engine to the invariant over one case; return the kinds of records there were."""
    engine, now, seen, kinds = engine_for(), 0.0, set[bytes](), set[Kind]()
    loaded.maps.control[bytes(4)] = bytes(CONTROL.size)  # as if nothing had been taken or watched before
    for packet in case:
        key = key_of(packet) if is_tcp(packet) else b""
        if key and key not in seen:
            seen.add(key)
            loaded.maps.taken.discard(key)
            loaded.maps.watched.discard(key)
            loaded.open_connection(parse(packet)) if is_readable(packet) else None
        outcome = loaded.send(packet)
        kinds |= {taken.kind for taken in outcome.taken}
        now += 0.01
        judge(loaded, engine, packet, outcome, now)
    return kinds


def judge(loaded: Bench, engine: Engine, packet: bytes, outcome: Outcome, now: float) -> None:
    if not outcome.taken:
        assert (outcome.verdict, outcome.packet) == (NEXT, packet)
        return
    verdicts = [decide(engine, taken, now) for taken in outcome.taken]
    last = outcome.taken[-1]
    if last.kind is Kind.MORE:
        assert outcome.verdict == DROP
        if verdicts == [Verdict.PASS] and last.well_formed:
            loaded.maps.taken.discard(last.connection)
        return
    assert outcome.verdict == NEXT
    assert parse(outcome.packet).flags == Flags.RST | Flags.ACK
    # Of one whose checksum is wrong, the engine takes what comes again.
    assert verdicts[-1] is (Verdict.REPLACE if is_taken_at_its_word(last) else Verdict.PASS), packet


def decide(engine: Engine, taken: TakenPacket, now: float) -> Verdict:
    return engine.handle(taken.payload, now, 1, taken.length, verified=True, proven=taken.proven).verdict


def is_taken_at_its_word(taken: TakenPacket) -> bool:
    """Whether the engine can read it: its lengths agree, and its options make sense."""
    return taken.well_formed and is_readable(taken.payload)


def is_tcp(packet: bytes) -> bool:
    try:
        read_control(packet, locate(packet))
        connection_of(packet, locate(packet))
    except MalformedPacket:
        return False
    return True


def is_readable(packet: bytes) -> bool:
    try:
        parse(packet)
    except MalformedPacket:
        return False
    return True


def pieces(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=4)))
    return [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)])]


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Draw a connection's packets: what resembles a request, in pieces, repeated, swapped, with a byte changed."""
    tokens = [TOKEN, TOKEN[:11], TOKEN[:11] + "x" * 32, TOKEN + "x", TOKEN + "?a", "x" * 43, ""]
    header = draw(st.sampled_from([b"", b"", *PROXY_HEADERS.values()]))
    whole = bytearray(header + request(draw(st.sampled_from(tokens))))
    if not draw(st.integers(0, 3)):
        whole[draw(st.integers(0, len(whole) - 1))] ^= draw(st.integers(1, 255))
    peer = Peer() if draw(st.booleans()) else Peer(address="2001:db8::1", server="2001:db8::2")
    sent = [peer.send(piece, PSH_ACK) for piece in pieces(draw, bytes(whole))]
    for _ in range(draw(st.integers(0, 3))):
        changes = draw(
            st.fixed_dictionaries({}, optional={"seq": st.integers(990, 1100), "flags": st.sampled_from(Flags)})
        )
        sent.insert(draw(st.integers(1, len(sent))), replace(draw(st.sampled_from(sent)), **changes))
    return [write(segment) for segment in sent]


@settings(max_examples=INPUTS, suppress_health_check=[HealthCheck.too_slow])
@given(case=streams())
def test_streams_hold_the_invariant(case: list[bytes], loaded: Bench) -> None:
    check(loaded, case)


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    """Draw the packets of one of the engine's cases, with bytes changed and ends cut off."""
    case = [packet for packet in packets(draw(st.sampled_from(CASES))) if _SHORTEST <= len(packet) < _LONGEST]
    changed = [bytearray(packet) for packet in case]
    for _ in range(draw(st.integers(0, 4)) if changed else 0):
        packet = draw(st.sampled_from(changed))
        packet[draw(st.integers(0, len(packet) - 1))] ^= draw(st.integers(1, 255))
    lengths = [draw(st.integers(_SHORTEST, len(packet))) if not draw(st.integers(0, 9)) else None for packet in changed]
    return [bytes(packet[:length]) for packet, length in zip(changed, lengths)]


@settings(max_examples=INPUTS, suppress_health_check=[HealthCheck.too_slow])
@given(case=damaged())
def test_damaged_cases_hold_the_invariant(case: list[bytes], loaded: Bench) -> None:
    check(loaded, case)


def test_the_cases_reach_each_kind_of_record(loaded: Bench) -> None:
    whole = [write(Peer().segment(request(), PSH_ACK))] * 2
    sender = Peer()
    in_pieces = [write(sender.send(piece, PSH_ACK)) for piece in (request()[:40], request()[40:])]
    assert check(loaded, whole) | check(loaded, in_pieces) == {Kind.TAKEN, Kind.TAKEN_IN_PIECES, Kind.MORE}
