"""What the engine makes of connections that exist, that do not, and of those that come by the thousand."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import pytest

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.endpoint import LINGER
from certbot_standalone_nfq.engine.engine import MAX_ANSWERS_PER_SECOND, MAX_WATCHED, Engine
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Reaction, Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Connection, Timestamps, write
from tests.engine.kept import kept_by
from tests.engine.peer import KEY_AUTHORIZATION, TOKEN, Peer, engine_for, request

PSH_ACK = Flags.PSH | Flags.ACK
FIN_ACK = Flags.FIN | Flags.ACK


@dataclass
class PlayedSockets:
    """Sockets whose kernel believes exactly one number."""

    open: set[Connection] = field(default_factory=set)
    believes: bool = True
    fails: bool = False
    asked: list[int] = field(default_factory=list)

    def is_open(self, ends: Connection, interface: int) -> bool:
        self.asked.append(interface)
        return ends in self.open

    def has_ended(self, ends: Connection, interface: int) -> bool:
        self.asked.append(interface)
        if self.fails:
            raise OSError
        return self.believes


@pytest.fixture
def sockets() -> PlayedSockets:
    return PlayedSockets()


@pytest.fixture
def engine(sockets: PlayedSockets) -> Engine:
    solver = Http01Solver()
    solver.add(TOKEN, KEY_AUTHORIZATION)
    return Engine([solver], sockets)


@pytest.mark.parametrize("payload", [request(), request()[:40], request()[:3]])
def test_a_connection_that_no_socket_has_passes_and_is_forgotten(engine: Engine, payload: bytes) -> None:
    peer = Peer()
    assert engine.handle(write(peer.send(payload, PSH_ACK)), 0.0) == Reaction(Verdict.PASS)
    assert engine.handle(write(peer.send(b"x" * 100, PSH_ACK)), 0.0) == Reaction(Verdict.PASS)


def test_a_forwarded_connection_needs_no_socket_here(engine: Engine, sockets: PlayedSockets) -> None:
    peer = Peer()
    reaction = engine.handle(write(peer.send(request(), PSH_ACK)), 0.0, forwarded=True)
    assert reaction.verdict is Verdict.REPLACE
    assert engine.confirm(peer.segment().connection)
    assert not sockets.asked


def test_a_connection_that_a_socket_has_is_taken_over_if_it_believes_the_reset(
    engine: Engine, sockets: PlayedSockets
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    assert engine.handle(write(peer.send(request()[:20], PSH_ACK)), 0.0, interface=7).verdict is Verdict.WATCH
    reaction = engine.handle(write(peer.send(request()[20:], PSH_ACK)), 0.0, interface=7)
    assert engine.confirm(peer.segment().connection)
    peer.take(*reaction.send)
    assert peer.body == KEY_AUTHORIZATION
    assert set(sockets.asked) == {7}
    assert engine.handle(write(peer.segment()), 0.0).event == Acknowledged(peer.segment().connection)


@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_whose_socket_does_not_believe_the_reset_is_the_servers_again(
    engine: Engine, sockets: PlayedSockets, fails: bool
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    sockets.believes, sockets.fails = False, fails
    assert engine.handle(write(peer.send(request(), PSH_ACK)), 0.0).verdict is Verdict.REPLACE
    assert not engine.confirm(peer.segment().connection)
    assert engine.handle(write(peer.send(b"GET / HTTP/1.1\r\n\r\n", PSH_ACK)), 0.0) == Reaction(Verdict.PASS)
    assert engine.deadline() is None
    assert engine.settled()


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_a_request_in_pieces_whose_reset_was_lost_is_taken_over_when_its_last_piece_comes_again(
    engine: Engine, sockets: PlayedSockets, cut: int
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    sockets.believes = False
    engine.handle(write(peer.send(request()[:cut], PSH_ACK)), 0.0)
    last = peer.send(request()[cut:], PSH_ACK)
    assert engine.handle(write(last), 0.0).verdict is Verdict.REPLACE
    assert not engine.confirm(last.connection)
    sockets.believes = True
    reaction = engine.handle(write(last), 0.2)
    assert reaction.reset is not None
    assert reaction.reset.seq == last.seq
    assert engine.confirm(last.connection)
    peer.take(*reaction.send)
    assert peer.body == KEY_AUTHORIZATION


def test_a_proven_takeover_is_not_ended_by_far_numbers(engine: Engine, sockets: PlayedSockets) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    peer.take(*engine.handle(write(peer.send(request(), PSH_ACK)), 0.0).send)
    sockets.open.clear()
    far = peer.segment(request(), PSH_ACK, seq=advance(peer.seq, 1 << 28))
    reaction = engine.handle(write(far), 0.0)
    assert (reaction.verdict, reaction.event) == (Verdict.DROP, None)
    assert engine.handle(write(peer.segment()), 0.0).event == Acknowledged(peer.segment().connection)


@pytest.mark.parametrize("ahead", [1, 1000, 1 << 28, -(1 << 28)])
@pytest.mark.parametrize("cut", [len(request()), 20])
def test_a_request_elsewhere_on_an_open_connection_is_of_a_later_one_if_the_end_of_the_one_before_was_lost(
    engine: Engine, sockets: PlayedSockets, cut: int, ahead: int
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    engine.handle(write(peer.send(request(), PSH_ACK)), 0.0)
    assert engine.confirm(peer.segment().connection)
    later = Peer(seq=advance(peer.seq, ahead))
    for piece in filter(None, (request()[:cut], request()[cut:])):
        later.take(*engine.handle(write(later.send(piece, PSH_ACK)), 0.0).send)
    assert later.body == KEY_AUTHORIZATION


@pytest.mark.parametrize("ahead", [-len(request()), 0])
def test_a_request_that_is_repeated_or_follows_at_once_is_of_the_same_connection(
    engine: Engine, sockets: PlayedSockets, ahead: int
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    peer.take(*engine.handle(write(peer.send(request(), PSH_ACK)), 0.0).send)
    again = peer.segment(request(), PSH_ACK, seq=advance(peer.seq, ahead))
    assert engine.handle(write(again), 0.0).verdict is Verdict.DROP


def test_a_socket_says_nothing_about_a_connection_that_was_proven_otherwise(
    engine: Engine, sockets: PlayedSockets
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    engine.handle(write(peer.send(request(), PSH_ACK)), 0.0, proven=True)
    further = peer.segment(request(), PSH_ACK, seq=advance(peer.seq, 1 << 28))
    assert engine.handle(write(further), 0.0, proven=True).verdict is Verdict.DROP


@pytest.mark.parametrize(("payload", "flags"), [(b"", Flags.ACK), (b"x", PSH_ACK), (request(), Flags.PSH)])
def test_anything_else_that_is_far_is_not(engine: Engine, sockets: PlayedSockets, payload: bytes, flags: Flags) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    peer.take(*engine.handle(write(peer.send(request(), PSH_ACK)), 0.0).send)
    far = peer.segment(payload, flags, seq=advance(peer.seq, 1 << 28))
    assert engine.handle(write(far), 0.0).verdict is Verdict.DROP
    assert engine.handle(write(peer.segment()), 0.0).event == Acknowledged(peer.segment().connection)


def test_so_it_is_where_the_capture_has_compared_the_numbers() -> None:
    engine, peer = engine_for(), Peer()
    peer.take(*engine.handle(write(peer.send(request(), PSH_ACK)), 0.0, proven=True).send)
    far = peer.segment(b"x", PSH_ACK, seq=advance(peer.seq, 1 << 28))
    assert engine.handle(write(far), 0.0, proven=True).verdict is Verdict.DROP
    assert engine.handle(write(peer.segment()), 0.0).event == Acknowledged(peer.segment().connection)


def test_no_socket_is_asked_where_the_capture_has_compared_the_numbers(engine: Engine) -> None:
    asked = Peer().segment(request(), PSH_ACK)
    assert engine.handle(write(asked), 0.0).verdict is Verdict.PASS
    assert engine.handle(write(asked), 0.0, proven=True).verdict is Verdict.REPLACE
    assert engine.confirm(asked.connection)


def test_numbers_from_far_before_change_nothing_about_a_proven_takeover(engine: Engine, sockets: PlayedSockets) -> None:
    peer = Peer(timestamps=Timestamps(7, 1))
    sockets.open.add(peer.segment().connection)
    peer.take(*engine.handle(write(peer.send(request(), PSH_ACK)), 0.0).send)
    engine.handle(write(peer.send(flags=FIN_ACK)), 0.0)
    forged = peer.segment(b"x", FIN_ACK, seq=advance(peer.seq, -(1 << 28)), timestamps=Timestamps(1000, 1))
    (acknowledgment,) = engine.handle(write(forged), LINGER - 1).send
    assert (acknowledgment.ack, acknowledgment.timestamps) == (peer.seq, Timestamps(1 + 1000 * (int(LINGER) - 1), 7))
    engine.tick(LINGER)
    assert engine.deadline() is None


def test_a_later_connection_from_the_same_port_must_be_open_too(engine: Engine, sockets: PlayedSockets) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    engine.handle(write(peer.send(request(), PSH_ACK)), 0.0)
    engine.handle(write(peer.send(flags=Flags.FIN | Flags.ACK)), 0.0)
    sockets.open.clear()
    later = Peer(seq=advance(peer.seq, 5000), ack=1)
    assert engine.handle(write(later.send(request(), PSH_ACK)), 0.0) == Reaction(Verdict.PASS)


@pytest.mark.parametrize(
    ("validator", "stranger"),
    [
        ("198.51.101.1", "198.51.100.{}"),
        ("2001:db8:1::1", "2001:db8:2::{:x}"),
        ("2001:db8:1::1", "2001:db8:2:{:02x}00::1"),
        ("192.0.2.1", "2001:db8:2::{:x}"),
    ],
)
def test_many_half_requests_of_one_network_displace_only_each_other(validator: str, stranger: str) -> None:
    """However few come from each of its addresses: here four, and five from the validator's."""
    engine = engine_for()
    server = {True: "2001:db8::80", False: "192.0.2.80"}
    peers = [Peer(address=validator, server=server[":" in validator], port=port) for port in range(1, 6)]
    for peer in peers:
        assert engine.handle(write(peer.send(request()[:40], PSH_ACK)), 0.0).verdict is Verdict.WATCH
    for number in range(2 * MAX_WATCHED):
        other = Peer(address=stranger.format(number % 256), server=server[":" in stranger], port=1 + number)
        assert engine.handle(write(other.send(request()[:40], PSH_ACK)), 0.0).verdict is Verdict.WATCH
    for peer in peers:
        assert engine.handle(write(peer.send(request()[40:], PSH_ACK)), 0.0).verdict is Verdict.REPLACE


def test_a_network_none_of_whose_connections_is_watched_any_more_takes_no_room() -> None:
    engine = engine_for()
    for number in range(200):
        peer = Peer(address=f"198.51.{number}.1")
        assert engine.handle(write(peer.send(request()[:40], PSH_ACK)), 0.0).verdict is Verdict.WATCH
        assert engine.handle(write(peer.send(b"\r\n", PSH_ACK)), 0.0).verdict is Verdict.PASS
    assert len(kept_by(engine, OrderedDict)) < 10


@pytest.mark.parametrize("forwarded", [False, True])
def test_a_later_connection_from_the_port_of_a_watched_one_needs_a_socket_unless_that_is_forwarded(
    engine: Engine, sockets: PlayedSockets, forwarded: bool
) -> None:
    peer = Peer()
    sockets.open.add(peer.segment().connection)
    packet = write(peer.send(request()[:20], PSH_ACK))
    assert engine.handle(packet, 0.0, forwarded=forwarded).verdict is Verdict.WATCH
    sockets.open.clear()
    later = write(Peer(seq=1 << 30).segment(request(), PSH_ACK))
    verdict = engine.handle(later, 0.0, forwarded=forwarded).verdict
    assert verdict is (Verdict.REPLACE if forwarded else Verdict.PASS)


def test_answers_in_a_second_are_bounded_and_who_is_not_answered_asks_again() -> None:
    engine = engine_for()
    peers = [Peer(port=port) for port in range(1, 3 * MAX_ANSWERS_PER_SECOND)]
    verdicts = [engine.handle(write(peer.segment(request(), PSH_ACK)), 0.0).verdict for peer in peers]
    assert verdicts[:MAX_ANSWERS_PER_SECOND] == [Verdict.REPLACE] * MAX_ANSWERS_PER_SECOND
    assert set(verdicts[MAX_ANSWERS_PER_SECOND:]) == {Verdict.DROP}
    last = peers[-1]
    assert engine.handle(write(last.send(request(), PSH_ACK)), 1.0).verdict is Verdict.REPLACE


def test_of_a_request_in_pieces_that_is_not_answered_at_once_the_server_does_not_get_the_rest_as_its_beginning() -> (
    None
):
    engine = engine_for()
    peers = [Peer(port=port) for port in range(1, MAX_ANSWERS_PER_SECOND + 1)]
    assert all(engine.handle(write(peer.segment(request(), PSH_ACK)), 0.0).verdict for peer in peers)
    late = Peer(port=MAX_ANSWERS_PER_SECOND + 1)
    first = late.send(request()[:-2], PSH_ACK)
    rest = late.send(request()[-2:], PSH_ACK)
    assert engine.handle(write(first), 0.0).verdict is Verdict.DROP
    assert engine.handle(write(rest), 0.0).verdict is Verdict.WATCH
    assert engine.handle(write(first), 1.0).verdict is Verdict.REPLACE
