from __future__ import annotations

import pytest

from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.challenges.http01.any_token import AnyTokenSolver
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import ChallengeId, Question, StreamSolver
from certbot_standalone_nfq.settings import DEFAULT_PORTS
from tests.challenges.dns01.messages import NAME, query

HTTP01 = ChallengePort(8080, (Http01Solver,))


class OtherSolver(Http01Solver):
    typ = "other-01"


def test_each_type_has_a_port() -> None:
    assert [solver.typ for solver in registry.SOLVERS] == list(DEFAULT_PORTS)


def test_a_solver_is_found_by_its_type() -> None:
    assert registry.solver("http-01") is Http01Solver
    with pytest.raises(KeyError):
        registry.solver("other-01")


def test_captures_are_told_what_to_look_a_challenge_up_by() -> None:
    solvers: list[type[StreamSolver]] = [*registry.SOLVERS, AnyTokenSolver]
    by = {
        (solver, each.by_server_name, each.by_question, each.by_host)
        for solver in solvers
        for each in solver.selectors(80)
    }
    assert by == {
        (Http01Solver, False, False, False),
        (TlsAlpn01Solver, True, False, False),
        (Dns01Solver, False, True, False),
        (AnyTokenSolver, False, False, True),
    }


def test_each_type_selects_by_its_own_keys() -> None:
    name = "validation.example.com"
    other, own = (ChallengePort(53, (Dns01Solver,), (ChallengeId(typ, name),)) for typ in ("http-01", "dns-01"))
    assert other.selectors() == list(Dns01Solver.selectors(53))
    assert own.selectors() == list(Dns01Solver.selectors(53, [name]))
    assert own.selectors() != other.selectors()


@pytest.mark.parametrize("port", [80, 8080])
def test_types_are_together_if_they_share_a_port(port: int) -> None:
    ports = registry.by_port({"http-01": 80, "other-01": port}, (Http01Solver, OtherSolver))
    together = {80: [{"http-01", "other-01"}], 8080: [{"http-01"}, {"other-01"}]}
    assert [each.typs for each in ports] == together[port]
    assert [each.number for each in ports] == sorted({80, port})


def test_what_begins_like_a_challenge_of_any_type_is_captured() -> None:
    selectors = HTTP01.selectors()
    assert {selector.port for selector in selectors} == {8080}
    assert any(selector.matches(REQUEST_PREFIX + b"token") for selector in selectors)
    assert not any(selector.matches(b"GET / HTTP/1.1") for selector in selectors)


@pytest.mark.parametrize(
    ("start", "key"), [(REQUEST_PREFIX + b"token HTTP/1.1", "token"), (b"GET / HTTP/1.1", None), (b"", None)]
)
def test_the_challenge_that_a_stream_asks_for_is_named_pending_or_not(start: bytes, key: str | None) -> None:
    assert HTTP01.challenge_in(start) == (key and ChallengeId("http-01", key))


@pytest.mark.parametrize(("rest", "altered"), [(b"token?x=1 HTTP/1.1", True), (b"token HTTP/1.1", False)])
def test_a_request_of_any_type_that_was_altered_is_told(rest: bytes, altered: bool) -> None:
    assert HTTP01.is_altered(REQUEST_PREFIX + rest) is altered
    assert ChallengePort(80, (OtherSolver, Dns01Solver)).is_altered(REQUEST_PREFIX + rest) is altered


def test_a_datagrams_question_is_named_where_a_type_is_answered_over_udp() -> None:
    question = Question(ChallengeId("dns-01", NAME), "TXT")
    assert ChallengePort(53, (Http01Solver, Dns01Solver)).question_in(query()) == question
    assert ChallengePort(53, (Dns01Solver,)).question_in(b"") is None
    assert HTTP01.question_in(query()) is None
