"""Attempts to connect, told by the few segments that are looked at."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.diagnosis.attempts import (
    MAX_ATTEMPTS,
    MAX_PACKETS,
    Attempt,
    Attempts,
    Kept,
    TappedSegment,
)
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Connection

SYN, ACK, FIN, RST = Flags.SYN, Flags.ACK, Flags.FIN, Flags.RST
REQUEST = b"GET /.well-known/acme-challenge/token HTTP/1.1\r\n\r\n"


def connection(port: int = 4000, peer: str = "192.0.2.1") -> Connection:
    return Connection(peer, port, "192.0.2.80", 80)


def incoming(flags: Flags, seq: int = 100, payload: bytes = b"", port: int = 4000) -> TappedSegment:
    return TappedSegment(connection(port), seq, flags, payload, outgoing=False, time=1.0)


def outgoing(flags: Flags, payload: bytes = b"") -> TappedSegment:
    return TappedSegment(connection(), 500, flags, payload, outgoing=True, time=2.0)


def after(*seen: TappedSegment) -> list[Attempt]:
    attempts = Attempts(Http01Solver.challenge_in)
    for each in seen:
        attempts.observe(each)
    return list(attempts)


def test_a_syn_without_an_answer_is_an_attempt() -> None:
    (attempt,) = after(incoming(SYN), incoming(SYN))
    assert (attempt.syns, attempt.accepted, attempt.refused) == (2, False, False)


def test_a_reset_in_place_of_a_syn_ack_refuses() -> None:
    (attempt,) = after(incoming(SYN), outgoing(RST | ACK))
    assert attempt.refused
    for others in ((outgoing(SYN | ACK), outgoing(RST)), (outgoing(ACK),)):
        (attempt,) = after(incoming(SYN), *others)
        assert not attempt.refused


def test_once_a_syn_is_repeated_what_goes_out_is_to_be_seen_and_further_syns_are_observed() -> None:
    attempts = Attempts(Http01Solver.challenge_in)
    for seen, observed, wanted in ((False, 0, False), (False, 0, True), (True, 1, True)):
        attempts.outgoing_seen = seen
        attempts.observe(incoming(SYN))
        (attempt,) = attempts
        assert (attempt.observed_syns, attempts.outgoing_wanted) == (observed, wanted)


def test_what_the_client_had_sent_is_told_by_its_close() -> None:
    for close in (FIN | ACK, RST):
        (attempt,) = after(incoming(SYN), incoming(close, seq=101))
        assert attempt.sent == 0
    (attempt,) = after(incoming(SYN), incoming(FIN | ACK, seq=101, payload=REQUEST))
    assert attempt.sent == len(REQUEST)
    (attempt,) = after(incoming(SYN), incoming(ACK, seq=101, payload=REQUEST[:20]))
    assert attempt.sent is None


def test_a_served_connection_is_forgotten_and_counted_as_an_arrival() -> None:
    attempts = Attempts(Http01Solver.challenge_in)
    for seen in (incoming(SYN), incoming(FIN | ACK, seq=301), incoming(FIN | ACK, seq=301)):
        attempts.observe(seen)
    assert list(attempts) == []
    assert attempts.arrivals == attempts.served == {"192.0.2.80": 1}


def test_a_challenge_request_is_remembered_even_if_its_connection_is_older_than_we() -> None:
    (attempt,) = after(incoming(ACK, payload=REQUEST), incoming(FIN | ACK, seq=301))
    assert attempt.challenge == ("http-01", "token")
    assert (attempt.first_seq, attempt.sent, attempt.altered) == (None, None, False)


def test_what_was_added_to_a_request_is_remembered_whatever_comes_behind() -> None:
    attempts = Attempts(Http01Solver.challenge_in, lambda payload: payload == REQUEST)
    for payload in (REQUEST, b"more", b""):
        attempts.observe(incoming(ACK, 101, payload))
    (attempt,) = attempts
    assert attempt.altered
    assert attempt.challenge == ("http-01", "token")


def test_packets_for_a_capture_say_when_they_came_and_which_open() -> None:
    attempts = Attempts(Http01Solver.challenge_in, keep_packets=True)
    for seen in (incoming(SYN), outgoing(SYN | ACK), outgoing(ACK)):
        attempts.observe(replace(seen, packet=b"bytes"))
    (attempt,) = attempts
    assert attempt.packets == [Kept(1.0, True, b"bytes"), Kept(2.0, True, b"bytes"), Kept(2.0, False, b"bytes")]


def test_an_answer_that_was_seen_stays_so() -> None:
    (attempt,) = after(incoming(SYN), outgoing(SYN | ACK), outgoing(ACK))
    assert (attempt.accepted, attempt.refused) == (True, False)
    (attempt,) = after(incoming(SYN), outgoing(RST | ACK), outgoing(ACK))
    assert (attempt.accepted, attempt.refused) == (False, True)


def test_a_challenge_connection_stays_when_its_client_has_closed_it() -> None:
    attempts = Attempts(Http01Solver.challenge_in)
    for seen in (incoming(SYN), incoming(ACK, 101, REQUEST), incoming(FIN | ACK, 101 + len(REQUEST))):
        attempts.observe(seen)
    assert [attempt.challenge for attempt in attempts] == [("http-01", "token")]
    assert attempts.served == {}


def test_what_this_machine_sends_begins_no_attempt() -> None:
    assert after(outgoing(ACK, b"HTTP/1.1 200 OK"), outgoing(SYN)) == []


def test_an_answer_may_leave_by_another_interface() -> None:
    (attempt,) = after(replace(incoming(SYN), interface="eth0"), replace(outgoing(SYN | ACK), interface="eth1"))
    assert attempt.accepted


def test_a_port_that_is_used_again_is_another_attempt_and_the_newest() -> None:
    (attempt,) = after(incoming(SYN), outgoing(RST | ACK), incoming(SYN, seq=9000))
    assert not attempt.refused
    assert (attempt.syns, attempt.first_seq) == (1, 9000)
    attempts = after(incoming(SYN), incoming(SYN, port=4001), incoming(SYN, seq=9000))
    assert [attempt.connection.peer_port for attempt in attempts] == [4001, 4000]


def test_what_comes_from_this_machine_itself_is_no_arrival() -> None:
    attempts = Attempts(Http01Solver.challenge_in)
    own = Connection("192.0.2.80", 4000, "192.0.2.80", 80)
    attempts.observe(TappedSegment(own, 1, SYN, b"", outgoing=False, time=1.0))
    assert attempts.arrivals == {}


def test_a_packet_that_is_handed_on_to_another_interface_is_not_sent_again() -> None:
    attempts = Attempts(Http01Solver.challenge_in, outgoing_seen=True)
    for interface in ("eth0", "br0"):
        attempts.observe(replace(incoming(SYN), interface=interface))
    (attempt,) = attempts
    assert attempt.syns == 1
    assert attempts.arrivals == {"192.0.2.80": 1}


def test_packets_are_kept_only_for_a_capture() -> None:
    (attempt,) = after(incoming(SYN))
    assert attempt.packets == []


def test_attempts_and_their_packets_are_bounded() -> None:
    attempts = Attempts(Http01Solver.challenge_in, keep_packets=True)
    for number in range(MAX_ATTEMPTS + 10):
        attempts.observe(incoming(SYN, port=number))
    for _ in range(100):
        attempts.observe(incoming(SYN, port=MAX_ATTEMPTS))
    kept = list(attempts)
    assert len(kept) == MAX_ATTEMPTS
    assert max(len(attempt.packets) for attempt in kept) == MAX_PACKETS


def test_arrivals_are_counted_for_a_bounded_number_of_addresses() -> None:
    attempts = Attempts(Http01Solver.challenge_in)
    locals_ = [f"198.51.{number // 250}.{number % 250}" for number in range(1000)]
    for seq, local in enumerate([*locals_, locals_[0]]):
        attempts.observe(replace(incoming(SYN, seq), connection=Connection("192.0.2.1", 4000, local, 80)))
    assert len(attempts.arrivals) == 256
    assert attempts.arrivals[locals_[0]] == 2


@given(
    st.lists(
        st.builds(
            TappedSegment,
            st.builds(connection, st.integers(1, 3)),
            st.integers(0, 2**32 - 1),
            st.builds(Flags, st.integers(0, 255)),
            st.sampled_from([b"", REQUEST, REQUEST[:32], b"x"]),
            st.booleans(),
            st.just(0.0),
        ),
        max_size=30,
    )
)
def test_no_sequence_of_segments_is_an_error(seen: list[TappedSegment]) -> None:
    assert len(after(*seen)) <= 3
