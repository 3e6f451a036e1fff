"""What the queries that came, and the words of CAs, say of a failure of dns-01."""

from __future__ import annotations

import pytest

from certbot_standalone_nfq.diagnosis import report
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.diagnosis.hints import words
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.queries import MAX_QUERIES, TappedDatagram
from certbot_standalone_nfq.diagnosis.report import Failure, Machine
from certbot_standalone_nfq.diagnosis.rules import Diagnosis
from certbot_standalone_nfq.engine.protocols import ChallengeId, Question, Transport
from certbot_standalone_nfq.engine.verdicts import Answered
from certbot_standalone_nfq.wire.tcp import Connection

OURS = ChallengeId("dns-01", "_acme-challenge.example.com")
PEER, OTHER, LOCAL = "192.0.2.1", "192.0.2.2", "203.0.113.80"
MACHINE = Machine(53, {}, frozenset(), frozenset(), watched=True)
SECONDARY = "During secondary validation: "
NOT_FOUND = [
    "DNS problem: NXDOMAIN looking up TXT for _acme-challenge.example.com - check that a DNS record exists for this "
    "domain",
    "No TXT record found at _acme-challenge.example.com",
    'Incorrect TXT record "Gp2xq" found at _acme-challenge.example.com',
    "No TXT records found for DNS challenge",
    "Correct value not found for DNS challenge",
]
REFUSED = [
    "DNS problem: SERVFAIL looking up TXT for _acme-challenge.example.com - the domain's nameservers may be "
    "malfunctioning",
    'Error retrieving TXT records for DNS challenge ("lookup _acme-challenge.example.com. on 198.51.100.12:53: server '
    'misbehaving")',
    'Error retrieving TXT records for DNS challenge ("DNS lookup for \\"_acme-challenge.example.com\\" returned an '
    "unsuccessful response: '\\\\x02'\")",
]
ELSEWHERE = ["DNS problem: query timed out looking up TXT for _acme-challenge.example.com"]


def question_in(payload: bytes) -> Question | None:
    """Read what these tests send as queries: the name, and the type."""
    name, _, kind = payload.decode().partition(" ")
    return Question(ChallengeId("dns-01", name), kind) if kind else None


def evidence(*answered: str, at_the_edge: tuple[tuple[str, str], ...] = ()) -> Evidence:
    """Return the evidence of queries that were answered, by peer, and of those that came, by peer and type."""
    collected = Evidence(lambda _: None, question_in=question_in)
    for port, peer in enumerate(answered):
        ends = Connection(peer, 5000 + port, LOCAL, 53)
        collected.observe(TappedDatagram(ends, f"{OURS.key} TXT".encode(), 0.0))
        collected.record(Answered(OURS, ends, transport=Transport.UDP))
    for port, (peer, kind) in enumerate(at_the_edge):
        collected.observe(TappedDatagram(Connection(peer, 6000 + port, LOCAL, 53), f"{OURS.key} {kind}".encode(), 0.0))
    return collected


def diagnosis(collected: Evidence, detail: str = "", kind: str = "dns", watched: bool = True) -> Diagnosis:
    machine = MACHINE if watched else Machine(53, {}, frozenset(), frozenset(), watched=False)
    (found,) = report.diagnoses([Failure("example.com", OURS, Problem(kind, detail))], collected, machine)
    return found


@pytest.mark.parametrize(
    ("detail", "cause"),
    [
        *((detail, Cause.OTHER_NAME_SERVER) for detail in NOT_FOUND),
        *((detail, Cause.NOT_BELIEVED) for detail in REFUSED),
        *((detail, Cause.OTHER_RESOLVER) for detail in ELSEWHERE),
    ],
)
@pytest.mark.parametrize("prefix", ["", SECONDARY])
def test_of_queries_that_were_answered_the_cas_words_decide(prefix: str, detail: str, cause: Cause) -> None:
    found = diagnosis(evidence(PEER, OTHER, PEER), prefix + detail)
    assert found.cause is cause
    assert found.peers == (PEER, OTHER)
    assert words(found).startswith(f"3 queries for {OURS.key} arrived (from {PEER}, {OTHER}) and were answered")


def test_a_problem_of_the_kind_dnssec_needs_no_words_that_are_known() -> None:
    assert diagnosis(evidence(PEER), "The answer was not signed as it should be", "dnssec").cause is Cause.NOT_BELIEVED


@pytest.mark.parametrize("detail", [*NOT_FOUND, *REFUSED, *ELSEWHERE])
def test_without_a_query_nothing_else_is_claimed(detail: str) -> None:
    found = diagnosis(evidence(), detail)
    assert found.cause is Cause.NO_QUERY
    assert words(found) == (
        f"no query for the TXT records of {OURS.key} arrived here. Check that {OURS.key} is delegated to this machine "
        "(NS), that its name server has this machine's address, and that nothing on the way blocks port 53, over UDP "
        "and TCP. See 'certbot-standalone-nfq doctor --challenge dns-01 example.com'."
    )


def test_what_was_not_watched_may_have_arrived() -> None:
    assert f"TXT records of {OURS.key} reached this plugin." in words(diagnosis(evidence(), watched=False))


def test_queries_for_other_records_show_that_the_name_leads_here() -> None:
    found = diagnosis(evidence(at_the_edge=((PEER, "NS"), (PEER, "NS"), (OTHER, "A"))), NOT_FOUND[0])
    assert found.cause is Cause.NO_QUERY
    assert "arrived here, although queries for its A, NS records did. Check" in words(found)


def test_queries_that_arrived_and_were_not_seen_by_the_plugin_are_taken_by_something_here() -> None:
    found = diagnosis(evidence(at_the_edge=((PEER, "TXT"), (PEER, "NS"))), NOT_FOUND[0])
    assert found.cause is Cause.QUERY_TAKEN
    assert words(found).startswith(
        f"1 query for {OURS.key} arrived at this machine (from {PEER}) but did not reach this plugin."
    )


@pytest.mark.parametrize(("answered", "said"), [((), ""), ((PEER,), " (1 query did arrive here and was answered)")])
def test_a_caa_record_is_told_with_what_of_it_matters(answered: tuple[str, ...], said: str) -> None:
    found = diagnosis(evidence(*answered), "CAA record for example.com prevents issuance", "caa")
    assert found.cause is Cause.FORBIDDEN
    assert words(found) == (
        f"a CAA record of the name or of a parent domain forbids the CA to issue{said}. Check the issue and issuewild "
        "records: one must name the CA, and its validationmethods, if there are any, must have dns-01."
    )


def test_only_so_many_queries_are_remembered_and_each_once() -> None:
    many = ((OTHER, "TXT"), *((PEER, "TXT") for _ in range(MAX_QUERIES + 4)))
    collected = evidence(at_the_edge=many)
    collected.observe(TappedDatagram(Connection(PEER, 6000 + 10, LOCAL, 53), f"{OURS.key} TXT".encode(), 0.0))
    collected.observe(TappedDatagram(Connection(PEER, 1, LOCAL, 53), b"nothing", 0.0))
    found = diagnosis(collected)
    assert (found.count, found.peers) == (MAX_QUERIES, (PEER,))


def test_the_log_says_that_a_query_came_over_udp_and_nothing_of_acknowledgments_there() -> None:
    event = Answered(OURS, Connection(PEER, 5000, LOCAL, 53), transport=Transport.UDP, seconds=0.002)
    assert report.answered("example.com", 1, event) == (
        f"example.com: challenge request no. 1, from {PEER} over IPv4 and UDP, answered in 2.0 ms"
    )
    answers = evidence(PEER, OTHER)
    assert report.summary("example.com", answers.seen(OURS)).endswith("requests answered: 2; sources: 2")
    answers.record(Answered(OURS, Connection(PEER, 5002, LOCAL, 53)))
    assert report.summary("example.com", answers.seen(OURS)) == (
        "example.com: challenge requests answered: 3; sources: 2"
    )
