"""From the evidence about all challenges to a diagnosis of each: which evidence counts, and what must be looked up."""

from __future__ import annotations

from typing import Any

from certbot_standalone_nfq.diagnosis.attempts import TappedSegment
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.report import (
    Failure,
    Machine,
    addresses_that_matter,
    answered,
    diagnoses,
    names_to_look_up,
    summary,
)
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Connection

OWN, BEHIND, FOREIGN = "203.0.113.80", "10.0.0.2", "203.0.113.99"
TOLD = Problem("connection", f"{OWN}: Fetching http://one.example.com/: Connection refused")
FIRST, SECOND = ChallengeId("http-01", "1"), ChallengeId("http-01", "2")
ONE, TWO = Failure("one.example.com", FIRST, TOLD), Failure("two.example.com", SECOND, Problem())


def machine(**facts: Any) -> Machine:
    common: dict[str, Any] = {
        "port": 80,
        "found": {"two.example.com": (FOREIGN,)},
        "own": frozenset({OWN}),
        "translated": frozenset(),
        "watched": True,
    }
    return Machine(**{**common, **facts})


def refused(*addresses: str) -> Evidence:
    """Return the evidence of connections to addresses that were refused."""
    evidence = Evidence(lambda _: None, capture=True)
    for port, address in enumerate(addresses):
        connection = Connection("192.0.2.1", port, address, 80)
        evidence.observe(TappedSegment(connection, 1, Flags.SYN, b"", outgoing=False, time=1.0))
        evidence.observe(TappedSegment(connection, 0, Flags.RST | Flags.ACK, b"", outgoing=True, time=1.0))
    return evidence


def test_only_names_whose_addresses_the_ca_does_not_tell_are_looked_up() -> None:
    assert names_to_look_up([TWO, ONE, TWO]) == ["two.example.com"]


def test_for_dns_01_no_address_is_looked_up() -> None:
    by_dns = Failure("two.example.com", ChallengeId("dns-01", "_acme-challenge.two.example.com"), Problem())
    assert names_to_look_up([by_dns]) == []
    assert names_to_look_up([by_dns, TWO]) == ["two.example.com"]


def test_the_machines_rules_and_listeners_are_known_to_each_diagnosis() -> None:
    (one,) = diagnoses([ONE], refused(OWN), machine(listening=frozenset({OWN})))
    assert (one.cause, one.listening) == (Cause.REFUSED, True)
    evidence = Evidence(lambda _: None)
    evidence.record(Answered(FIRST, Connection("192.0.2.1", 1, OWN, 80)))
    (one,) = diagnoses([ONE], evidence, machine(changing=("a rule",)))
    assert (one.cause, one.rules) == (Cause.UNACKNOWLEDGED, ("a rule",))
    (one,) = diagnoses([ONE], Evidence(lambda _: None), machine(watched=False))
    assert (one.cause, one.watched) == (Cause.NOTHING, False)


def test_addresses_matter_if_they_were_named_or_found_or_packets_came_for_them() -> None:
    matter = addresses_that_matter([ONE, TWO], {"two.example.com": (FOREIGN,)}, refused(BEHIND))
    assert matter == {OWN, FOREIGN, BEHIND}


def test_each_failure_has_a_diagnosis_of_its_own() -> None:
    one, two = diagnoses([ONE, TWO], refused(OWN), machine())
    assert (one.name, one.cause, one.addresses) == ("one.example.com", Cause.REFUSED, (OWN,))
    assert (two.name, two.cause, two.addresses) == ("two.example.com", Cause.NOT_THIS_MACHINE, (FOREIGN,))


def test_what_was_forwarded_to_other_machines_is_no_evidence_about_this_one() -> None:
    (one,) = diagnoses([ONE], refused(BEHIND, BEHIND), machine())
    assert (one.cause, one.arrived) == (Cause.NOTHING, 0)
    (one,) = diagnoses([ONE], refused(BEHIND, BEHIND), machine(own=frozenset({OWN, BEHIND})))
    assert (one.cause, one.count) == (Cause.REFUSED, 2)


def test_addresses_may_be_translated_by_their_ip_version() -> None:
    (two,) = diagnoses([TWO], refused(OWN), machine(translated=frozenset({6})))
    assert two.cause is Cause.NOT_THIS_MACHINE
    assert not two.translated
    (two,) = diagnoses([TWO], refused(OWN), machine(translated=frozenset({4})))
    assert two.cause is Cause.REFUSED
    assert two.translated
    (two,) = diagnoses(
        [TWO],
        refused(OWN),
        machine(found={"two.example.com": (FOREIGN, "2001:db8::99")}, translated=frozenset({6})),
    )
    assert two.translated


def test_the_log_has_a_line_for_each_answer_and_one_for_all() -> None:
    evidence = Evidence(lambda _: None)
    first = Answered(FIRST, Connection("2001:db8::1", 1, "2001:db8::80", 80), seconds=0.0012)
    for event in (first, Answered(FIRST, Connection("192.0.2.1", 1, OWN, 80)), Acknowledged(first.connection)):
        evidence.record(event)
    assert answered("example.com", 1, first) == (
        "example.com: challenge request no. 1, from 2001:db8::1 over IPv6, answered in 1.2 ms"
    )
    assert summary("example.com", evidence.seen(FIRST)) == (
        "example.com: challenge requests answered: 2; sources: 2; answers acknowledged: 1"
    )
