from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.solver import ENOUGH, REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.engine import engine as engine_module
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.receive_buffer import MAX_START, WINDOW, ReceiveBuffer
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Reaction, Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, write
from tests.engine.kept import kept_by
from tests.engine.peer import KEY_AUTHORIZATION, TOKEN, Peer, engine_for, request
from tests.wire.proxies import PROXY_HEADERS

PSH_ACK = Flags.PSH | Flags.ACK
ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture
def solver() -> Http01Solver:
    solver = Http01Solver()
    solver.add(TOKEN, KEY_AUTHORIZATION)
    return solver


@pytest.fixture
def engine(solver: Http01Solver) -> Engine:
    return Engine([solver])


def handle(engine: Engine, segment: Segment, now: float = 0.0) -> Reaction:
    return engine.handle(write(segment), now)


@pytest.mark.parametrize(
    "payload",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        request("another-token"),
        request(TOKEN + "x"),
        request().replace(b"GET", b"PUT"),
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_not_for_a_pending_token_passes_and_is_forgotten(engine: Engine, payload: bytes) -> None:
    assert handle(engine, Peer().segment(payload, PSH_ACK)) == Reaction(Verdict.PASS)
    assert engine.deadline() is None


def test_bystanders_packets_are_not_parsed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(engine, Peer(port=1).send(request(), PSH_ACK))
    handle(engine, Peer(port=2).send(request()[:5], PSH_ACK))
    monkeypatch.setattr(engine_module, "read", lambda *_: pytest.fail("parsed"))
    for payload in (b"GET / HTTP/1.1\r\n\r\n", request("another-token"), b"", b"x" * 1400):
        assert handle(engine, Peer(port=3).segment(payload, PSH_ACK)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("peer", "header"), [(Peer(), 20), (Peer(address="2001:db8::1", server="2001:db8::80"), 40)], ids=["IPv4", "IPv6"]
)
def test_a_damaged_packet_passes_whichever_bit_it_is(engine: Engine, peer: Peer, header: int) -> None:
    intact = write(peer.segment(request(), PSH_ACK))
    for number in range(header * 8, len(intact) * 8):
        damaged = bytearray(intact)
        damaged[number // 8] ^= 1 << number % 8
        assert engine.handle(bytes(damaged), 0.0, verified=False) == Reaction(Verdict.PASS)
    assert engine.handle(intact, 0.0, verified=False).verdict is Verdict.REPLACE


def damaged(segment: Segment) -> bytes:
    octets = bytearray(write(segment))
    octets[-1] ^= 1
    return bytes(octets)


def test_a_packet_whose_checksum_was_verified_is_not_checked_again(engine: Engine) -> None:
    assert engine.handle(damaged(Peer().segment(request(), PSH_ACK)), 0.0).verdict is Verdict.REPLACE


def garbled(segment: Segment) -> bytes:
    """Return a packet whose timestamps option is too short to be one."""
    octets = bytearray(write(replace(segment, timestamps=Timestamps(1, 2))))
    octets[43] = 6
    return bytes(octets)


def test_a_packet_with_options_that_make_no_sense_changes_nothing(engine: Engine) -> None:
    peer = Peer()
    assert engine.handle(garbled(peer.segment(request(), PSH_ACK)), 0.0) == Reaction(Verdict.PASS)
    handle(engine, peer.send(request()[:20], PSH_ACK))
    assert engine.handle(garbled(peer.segment(request()[20:], PSH_ACK)), 0.0) == Reaction(Verdict.WATCH)
    peer.take(*handle(engine, peer.send(request()[20:], PSH_ACK)).send)
    assert engine.handle(garbled(peer.segment()), 0.0) == Reaction(Verdict.DROP)
    assert not engine.settled()


def test_what_is_sent_belongs_to_the_interface_that_the_request_came_in_by(engine: Engine) -> None:
    for port, interface in ((1, 0), (2, 7)):
        packet = write(Peer(port=port).segment(request(), PSH_ACK))
        (answer,) = engine.handle(packet, 0.0, interface).send if interface else engine.handle(packet, 0.0).send
        assert answer.interface == interface


def test_a_damaged_packet_does_not_end_the_watch_of_its_connection(engine: Engine) -> None:
    peer = Peer()
    handle(engine, peer.send(request()[:20], PSH_ACK))
    rest = peer.segment(request()[20:], PSH_ACK)
    assert engine.handle(damaged(rest), 0.0, verified=False) == Reaction(Verdict.WATCH)
    assert handle(engine, rest).verdict is Verdict.REPLACE


def test_a_damaged_packet_does_not_end_a_takeover(engine: Engine) -> None:
    peer = Peer()
    answer = handle(engine, peer.send(request(), PSH_ACK)).send
    peer.take(*answer)
    assert engine.handle(damaged(peer.segment()), 0.0, verified=False) == Reaction(Verdict.DROP)
    assert handle(engine, peer.segment()).event == Acknowledged(peer.segment().connection)


@pytest.mark.parametrize("header", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
@pytest.mark.parametrize("together", [True, False])
def test_a_request_behind_a_proxys_header_is_answered(engine: Engine, header: bytes, together: bool) -> None:
    peer = Peer()
    if not together:
        assert handle(engine, peer.send(header, PSH_ACK)).verdict is Verdict.WATCH
    begin = peer.seq
    reaction = handle(engine, peer.send(header * together + request(), PSH_ACK))
    assert reaction.verdict is Verdict.REPLACE
    assert reaction.reset
    assert reaction.reset.seq == begin
    assert isinstance(reaction.event, Answered)
    assert reaction.event.challenge == ("http-01", TOKEN)
    peer.take(*reaction.send)
    assert peer.body == KEY_AUTHORIZATION


@pytest.mark.parametrize("header", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
def test_a_bystander_behind_a_proxys_header_passes(engine: Engine, header: bytes) -> None:
    for payload in (b"GET / HTTP/1.1\r\n\r\n", request("another-token")):
        assert handle(engine, Peer().segment(header + payload, PSH_ACK)) == Reaction(Verdict.PASS)


@pytest.mark.parametrize("verified", [True, False])
def test_a_request_that_is_shown_in_part_is_taken_over_and_its_rest_asked_for(engine: Engine, verified: bool) -> None:
    """Its checksum cannot be checked."""
    peer = Peer()
    whole = write(peer.send(request(), PSH_ACK))
    shown = whole[:-20]
    reaction = engine.handle(shown, 0.0, length=len(whole), verified=verified)
    assert reaction.verdict is Verdict.REPLACE
    (acknowledgment,) = reaction.send
    assert (acknowledgment.flags, acknowledgment.ack) == (Flags.ACK, advance(peer.seq, -20))
    rest = handle(engine, peer.segment(request()[-20:], PSH_ACK, seq=advance(peer.seq, -20)))
    assert KEY_AUTHORIZATION.encode() in rest.send[0].payload


@pytest.mark.parametrize(
    "flags", [Flags.SYN, Flags.SYN | Flags.ACK, Flags.RST | Flags.ACK, Flags.PSH], ids=lambda flags: str(int(flags))
)
def test_data_that_is_no_part_of_an_open_connection_passes(engine: Engine, flags: Flags) -> None:
    """A SYN's may be (RFC 7413), but not before the server has accepted it."""
    assert handle(engine, Peer().segment(request(), flags)) == Reaction(Verdict.PASS)


def test_a_withdrawn_token_is_the_servers(engine: Engine, solver: Http01Solver) -> None:
    solver.remove(TOKEN)
    assert handle(engine, Peer().segment(request(), PSH_ACK)).verdict is Verdict.PASS


def test_an_answer_under_way_is_seen_through_after_its_token_was_withdrawn(
    engine: Engine, solver: Http01Solver
) -> None:
    peer = Peer()
    handle(engine, peer.send(request(), PSH_ACK))
    solver.remove(TOKEN)
    peer.take(*engine.tick(1.0))
    assert peer.body == KEY_AUTHORIZATION
    assert not engine.settled()


def test_all_is_settled_only_when_the_last_answer_has_arrived(engine: Engine) -> None:
    first, second = Peer(port=1), Peer(port=2)
    for peer in (first, second):
        peer.take(*handle(engine, peer.send(request(), PSH_ACK)).send)
    handle(engine, first.send())
    assert not engine.settled()
    handle(engine, second.send())
    assert engine.settled()


def test_a_later_request_on_a_kept_connection_is_answered(engine: Engine) -> None:
    """Its earlier requests never came to us, or were let go; the engine knows nothing of the connection."""
    peer = Peer(seq=123_456, ack=654_321)
    handle(engine, peer.send(request("someone-elses"), PSH_ACK))
    peer.ack = advance(peer.ack, 300)
    reaction = handle(engine, peer.send(request(), PSH_ACK))
    peer.take(*reaction.send)
    assert peer.body == KEY_AUTHORIZATION
    assert reaction.reset is not None
    assert reaction.reset.seq == advance(peer.seq, -len(request()))


def test_connections_are_told_apart_by_all_four_of_their_parts(engine: Engine) -> None:
    peers = [Peer(), Peer(port=40001), Peer(address="192.0.2.2"), Peer(server="192.0.2.81")]
    for peer in peers:
        peer.take(*handle(engine, peer.send(request(), PSH_ACK)).send)
    assert [peer.body for peer in peers] == [KEY_AUTHORIZATION] * 4


@pytest.mark.parametrize("cut", range(1, len(request())))
def test_a_request_in_two_pieces_is_answered_wherever_it_is_cut(engine: Engine, cut: int) -> None:
    peer = Peer()
    first = handle(engine, peer.send(request()[:cut], PSH_ACK))
    peer.take(*first.send)
    second = handle(engine, peer.send(request()[cut:], PSH_ACK))
    peer.take(*second.send)
    assert peer.body == KEY_AUTHORIZATION
    assert [first.verdict, second.verdict] in (
        [Verdict.WATCH, Verdict.REPLACE],
        [Verdict.REPLACE, Verdict.DROP],
    )


def test_a_request_octet_by_octet_never_reaches_the_server_whole(engine: Engine) -> None:
    peer = Peer()
    passed = b""
    for index in range(len(request())):
        octet = request()[index : index + 1]
        reaction = handle(engine, peer.send(octet, PSH_ACK))
        if reaction.verdict is Verdict.WATCH:
            passed += octet
        elif reaction.reset:
            assert reaction.reset.seq == advance(1000, len(passed))
        peer.take(*reaction.send)
    assert passed == request()[: len(passed)]
    assert len(passed) == len(REQUEST_PREFIX) + ENOUGH - 1
    assert peer.body == KEY_AUTHORIZATION


def test_a_bystander_who_begins_alike_is_let_go_at_once_and_for_good(engine: Engine) -> None:
    peer = Peer()
    assert handle(engine, peer.send(b"GET /", PSH_ACK)).verdict is Verdict.WATCH
    assert handle(engine, peer.send(b"index.html HTTP/1.1\r\n", PSH_ACK)).verdict is Verdict.PASS
    assert handle(engine, peer.send(b"\r\n", PSH_ACK)).verdict is Verdict.PASS


def test_pieces_that_come_out_of_order_are_put_in_order(engine: Engine) -> None:
    peer = Peer()
    first, second, third = peer.send(b"GET /.w", PSH_ACK), peer.send(b"ell-kno", PSH_ACK), peer.send(request()[14:])
    assert handle(engine, first).verdict is Verdict.WATCH
    assert handle(engine, third).verdict is Verdict.WATCH
    reaction = handle(engine, second)
    assert reaction.verdict is Verdict.REPLACE
    assert reaction.reset is not None
    assert reaction.reset.seq == second.seq
    peer.take(*reaction.send)
    assert peer.body == KEY_AUTHORIZATION


def test_a_bare_acknowledgment_between_pieces_does_not_end_the_watch(engine: Engine) -> None:
    peer = Peer()
    handle(engine, peer.send(request()[:20], PSH_ACK))
    assert handle(engine, peer.send()).verdict is Verdict.WATCH
    assert handle(engine, peer.send(request()[20:], PSH_ACK)).verdict is Verdict.REPLACE


@pytest.mark.parametrize("ending", [Flags.FIN | Flags.ACK, Flags.RST, Flags.RST | Flags.ACK])
def test_a_watched_connection_that_ends_is_forgotten(engine: Engine, ending: Flags) -> None:
    peer = Peer()
    handle(engine, peer.send(b"GET ", PSH_ACK))
    assert handle(engine, peer.send(flags=ending)).verdict is Verdict.PASS


def test_a_watched_connections_own_syn_that_comes_late_changes_nothing(engine: Engine) -> None:
    peer = Peer()
    handle(engine, peer.send(request()[:20], PSH_ACK))
    assert handle(engine, peer.segment(flags=Flags.SYN, seq=999, ack=0)).verdict is Verdict.WATCH
    assert handle(engine, peer.send(request()[20:], PSH_ACK)).verdict is Verdict.REPLACE


@pytest.mark.parametrize("gap", [0, 1_000_000])
def test_a_new_syn_from_the_same_port_ends_the_watch(engine: Engine, gap: int) -> None:
    peer = Peer()
    handle(engine, peer.send(request()[:20], PSH_ACK))
    new = peer.segment(flags=Flags.SYN, seq=advance(peer.seq, gap), ack=0)
    assert handle(engine, new).verdict is Verdict.PASS
    assert handle(engine, peer.send(request()[20:], PSH_ACK)).verdict is Verdict.PASS


def test_a_beginning_that_comes_again_together_with_the_rest_is_answered(engine: Engine) -> None:
    """Linux joins segments that it sends again. The server has had the beginning already."""
    peer = Peer()
    handle(engine, peer.segment(request()[:20], PSH_ACK))
    reaction = handle(engine, peer.send(request(), PSH_ACK))
    assert reaction.verdict is Verdict.REPLACE
    assert reaction.reset
    assert reaction.reset.seq == 1020
    peer.take(*reaction.send)
    assert peer.body == KEY_AUTHORIZATION


@pytest.mark.parametrize("gap", [WINDOW, 1_000_000, -MAX_START - 1])
def test_a_later_connection_is_not_mistaken_for_the_watched_one_before_it(engine: Engine, gap: int) -> None:
    handle(engine, Peer(seq=50_000 - 4).send(b"GET ", PSH_ACK))
    reaction = handle(engine, Peer(seq=50_000 + gap).send(request(), PSH_ACK))
    assert reaction.verdict is Verdict.REPLACE


def test_watched_and_taken_over_connections_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_WATCHED", 10)
    monkeypatch.setattr(engine_module, "MAX_TAKEN_OVER", 10)
    for port in range(1, 200):
        handle(engine, Peer(port=port).segment(b"GET ", PSH_ACK))
    assert len(kept_by(engine, ReceiveBuffer)) == 10
    for port in range(1, 200):
        handle(engine, Peer(port=port + 1000).segment(request(), PSH_ACK))
    assert len(kept_by(engine, ReceiveBuffer)) == 20
    assert handle(engine, Peer(port=199, seq=1004).segment(request()[4:], PSH_ACK)).verdict is Verdict.REPLACE


@settings(max_examples=300)
@given(token=st.text(ALPHABET, min_size=22, max_size=64))
def test_any_token_comes_back_intact(token: str) -> None:
    engine, peer = engine_for(token), Peer()
    peer.take(*handle(engine, peer.send(request(token), PSH_ACK)).send)
    assert peer.body == f"{token}.thumbprint"


def test_each_character_of_a_token_comes_back_intact_in_each_position() -> None:
    tokens = ["".join(ALPHABET[(shift + place) % 64] for place in range(64)) for shift in range(64)]
    assert all({token[place] for token in tokens} == set(ALPHABET) for place in range(64))
    engine = engine_for(*tokens)
    for port, token in enumerate(tokens, 1):
        peer = Peer(port=port)
        peer.take(*handle(engine, peer.send(request(token), PSH_ACK)).send)
        assert peer.body == f"{token}.thumbprint"


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Packets of a few connections near each other's numbers, with plausible payloads, some of them damaged."""
    payloads = st.sampled_from([b"", b"G", b"GET ", request()[:40], request()[40:], request(), b"x" * 1400])
    segment = Peer(
        seq=draw(st.sampled_from([0, 999, 1000, 1040, 2**32 - 1])) + draw(st.integers(0, 120)),
        ack=5000 + draw(st.integers(-2, 300)),
        port=draw(st.integers(1, 3)),
    ).segment(draw(payloads | st.binary(max_size=60)), Flags(draw(st.integers(0, 255))))
    packet = bytearray(write(Segment(**{**vars(segment), "seq": segment.seq % 2**32})))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 4]))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet)


@settings(max_examples=300)
@given(events=st.lists(packets() | st.binary(max_size=100) | st.floats(0, 5), max_size=30))
def test_whatever_comes_in_only_peers_of_pending_tokens_are_answered(events: list[bytes | float]) -> None:
    """No exception, one verdict a packet, nothing sent but to connections that asked for a pending token."""
    engine = engine_for()
    now = 0.0
    asked = set()
    for event in events:
        if isinstance(event, float):
            now += event
            sent = engine.tick(now)
        else:
            reaction = engine.handle(event, now)
            sent = reaction.send
            assert isinstance(reaction.verdict, Verdict)
            assert (reaction.reset is not None) == (reaction.verdict is Verdict.REPLACE)
            if reaction.reset:
                asked.add(reaction.reset.connection)
            if isinstance(reaction.event, Answered):
                assert reaction.event.connection in asked
        for segment in sent:
            to = (segment.destination, segment.destination_port, segment.source, segment.source_port)
            assert to in asked
            assert len(segment.payload) < 1000
    streams = kept_by(engine, ReceiveBuffer)
    assert len(streams) <= len(events)
    assert all(len(stream.unread) <= len(request()) for stream in streams)
