"""What is remembered of requests and connection attempts."""

from __future__ import annotations

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.diagnosis.attempts import TappedSegment
from certbot_standalone_nfq.diagnosis.evidence import MAX_BEGUN, MAX_REQUESTS, Evidence
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Begun
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Connection

SERVER = "192.0.2.80"
ASKED = ChallengeId("http-01", "a")
REQUEST = b"GET /.well-known/acme-challenge/a HTTP/1.1\r\n\r\n"


def connection(peer: str = "192.0.2.1", port: int = 4000) -> Connection:
    return Connection(peer, port, SERVER, 80)


def tapped(flags: Flags, port: int, payload: bytes = b"") -> TappedSegment:
    return TappedSegment(connection(port=port), 1, flags, payload, outgoing=False, time=1.0)


def test_requests_are_kept_by_challenge_and_counted_beyond_what_is_kept() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    for number in range(MAX_REQUESTS + 5):
        count = evidence.record(Answered(ASKED, connection(port=number)))
    assert count == evidence.seen(ASKED).count == MAX_REQUESTS + 5
    assert len(evidence.seen(ASKED).requests) == MAX_REQUESTS
    assert evidence.seen(ChallengeId("http-01", "b")).requests == []


def test_an_answer_is_acknowledged_on_its_own_connection() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    for port in (1, 2):
        evidence.record(Answered(ASKED, connection(port=port)))
    for port in (2, 3):
        assert evidence.record(Acknowledged(connection(port=port))) == 0
    assert [request.acknowledged for request in evidence.seen(ASKED).requests] == [False, True]


def test_a_request_at_the_edge_that_was_answered_is_not_another_programs() -> None:
    """Behind a redirection, the interception knows the connection by another address of ours."""
    evidence = Evidence(Http01Solver.challenge_in, capture=True)
    for port in (1, 2, 3):
        evidence.observe(tapped(Flags.SYN, port))
        evidence.observe(tapped(Flags.PSH | Flags.ACK, port, REQUEST))
    evidence.record(Answered(ASKED, Connection("192.0.2.1", 1, "10.0.0.1", 8080)))
    unanswered = evidence.seen(ASKED).unanswered
    assert [(attempt.connection.peer_port, attempt.altered) for attempt in unanswered] == [(2, False), (3, False)]
    assert evidence.seen(ChallengeId("http-01", "b")).unanswered == []
    assert [kept.opening for kept in evidence.packets()] == [True, True, False, True, False]
    assert evidence.attempts() == []


def test_packets_are_kept_only_for_a_capture() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    evidence.observe(tapped(Flags.SYN, 1))
    assert evidence.packets() == []


def test_what_goes_out_is_wanted_once_a_syn_is_repeated_and_counts_once_it_is_seen() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    assert [evidence.observe(tapped(Flags.SYN, 1)) for _ in range(2)] == [False, True]
    evidence.outgoing_is_seen()
    evidence.observe(tapped(Flags.SYN, 1))
    (attempt,) = evidence.attempts()
    assert (attempt.syns, attempt.observed_syns) == (3, 1)


def test_connections_of_others_are_counted_and_those_that_brought_data() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    for port in (1, 2):
        evidence.observe(tapped(Flags.SYN, port))
    evidence.observe(tapped(Flags.FIN | Flags.ACK, 2, b"the last of what it sent"))
    assert evidence.arrivals() == {SERVER: 2}
    assert evidence.served() == {SERVER: 1}


def test_what_was_begun_is_told_from_what_never_came_to_the_plugin() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    for port in (1, 2, 3):
        evidence.observe(tapped(Flags.PSH | Flags.ACK, port, REQUEST))
    for port in (1, 2):
        assert evidence.record(Begun(connection(port=port))) == 0
    evidence.record(Answered(ASKED, connection(port=1)))
    seen = evidence.seen(ASKED)
    assert [attempt.connection.peer_port for attempt in seen.unfinished] == [2]
    assert [attempt.connection.peer_port for attempt in seen.unanswered] == [3]


def test_no_more_beginnings_are_remembered_than_connections_can_be_held() -> None:
    evidence = Evidence(Http01Solver.challenge_in)
    evidence.observe(tapped(Flags.PSH | Flags.ACK, 0, REQUEST))
    for port in range(MAX_BEGUN):
        evidence.record(Begun(connection(port=port)))
    assert len(evidence.seen(ASKED).unfinished) == 1
    evidence.record(Begun(connection(port=MAX_BEGUN)))
    assert evidence.seen(ASKED).unfinished == []
