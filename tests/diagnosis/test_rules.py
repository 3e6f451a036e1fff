"""Causes that can be told apart without a network, and the words for all of them. tests/e2e has the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from certbot_standalone_nfq.diagnosis.attempts import Attempt
from certbot_standalone_nfq.diagnosis.evidence import Request, Seen
from certbot_standalone_nfq.diagnosis.hints import MAX_LINES, hint, words
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.rules import Case, Cause, Diagnosis, HostFacts, diagnose
from certbot_standalone_nfq.wire.tcp import Connection

OWN, FOREIGN = "203.0.113.80", "203.0.113.99"


def attempt(peer: str = "198.51.100.1", local: str = OWN, **facts: Any) -> Attempt:
    return Attempt(Connection(peer, 4000, local, 80), 1, "eth0", **facts)


def case(**facts: Any) -> Case:
    common: dict[str, Any] = {
        "name": "example.com",
        "seen": Seen(),
        "attempts": [],
        "arrivals": Counter(),
        "served": Counter(),
        "problem": Problem(),
        "host": HostFacts(80, (OWN,), frozenset({OWN})),
    }
    return Case(**{**common, **facts})


@pytest.mark.parametrize(
    ("detail", "addresses"),
    [
        ("203.0.113.5: Fetching http://x/.well-known/acme-challenge/t: Timeout during connect", ("203.0.113.5",)),
        ("2001:db8::5: Invalid response from http://x/.well-known/acme-challenge/t: 404", ("2001:db8::5",)),
        ('Get "http://x:80/": dial tcp 203.0.113.5:80: connect: connection refused', ("203.0.113.5",)),
        ('Get "http://x:80/": dial tcp [2001:db8::5]:80: i/o timeout', ("2001:db8::5",)),
        ("read tcp 192.0.2.1:4000->203.0.113.5:80: read: connection reset by peer", ("203.0.113.5",)),
        ("During secondary validation: 203.0.113.5: Fetching http://x: Timeout during read", ("203.0.113.5",)),
        ("lookup example.com on 127.0.0.53:53: no such host", ()),
        ("dial tcp 999.1.1.1:80: what", ()),
        ("", ()),
    ],
)
def test_the_addresses_that_the_ca_names_are_read_out_of_its_words(detail: str, addresses: tuple[str, ...]) -> None:
    assert Problem("connection", detail).addresses == addresses


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("caa", "CAA record for example.com prevents issuance"),
        ("dns", "DNS problem: NXDOMAIN looking up A for example.com"),
        ("dnssec", "DNSSEC validation failure"),
        ("connection", 'could not resolve URL "http://example.com"'),
    ],
)
def test_a_problem_of_the_name_is_reported_even_if_requests_were_answered(kind: str, detail: str) -> None:
    seen = Seen([Request(Connection("198.51.100.1", 1, OWN, 80), 0.001, acknowledged=True)], 1)
    for there in (Seen(), seen):
        assert diagnose(case(seen=there, problem=Problem(kind, detail))).cause is Cause.NAME_TROUBLE
    text = words(diagnose(case(seen=seen, problem=Problem(kind, detail))))
    assert "(1 challenge request did arrive here and was answered)" in text


def test_an_address_that_is_not_ours_is_the_reason_unless_addresses_are_translated() -> None:
    around = HostFacts(80, (FOREIGN,), frozenset())
    dropped = [attempt(syns=3, observed_syns=1)]
    assert diagnose(case(host=around, attempts=dropped)).cause is Cause.NOT_THIS_MACHINE
    translated = HostFacts(80, (FOREIGN,), frozenset(), translated=True)
    assert diagnose(case(host=translated, attempts=dropped)).cause is Cause.DROPPED
    alone = diagnose(case(host=translated))
    assert alone.cause is Cause.NOT_THIS_MACHINE
    assert "Forward TCP port 80 of that address" in words(alone)


def test_attempts_over_another_ip_version_than_the_cas_are_not_blamed() -> None:
    problem = Problem("connection", f"{OWN}: Fetching http://example.com: Timeout during connect")
    found = diagnose(case(problem=problem, attempts=[attempt("2001:db8::1", "2001:db8::80", refused=True)]))
    assert found.cause is Cause.NOTHING


def test_an_open_connection_counts_only_if_the_ca_says_it_had_one() -> None:
    silent = [attempt(syns=1)]
    assert diagnose(case(attempts=silent)).cause is Cause.NOTHING
    waited = Problem("connection", "Timeout after connect (your server may be slow or overloaded)")
    assert diagnose(case(attempts=silent, problem=waited)).cause is Cause.NO_REQUEST


def test_an_attempt_counts_as_refused_if_the_ca_says_so_and_no_client_was_served_there() -> None:
    refused = Problem("connection", f"dial tcp {OWN}:80: connect: connection refused")
    silent = [attempt(syns=1)]
    assert diagnose(case(attempts=silent, problem=refused)).cause is Cause.REFUSED
    served = diagnose(case(attempts=silent, problem=refused, served=Counter({OWN: 1})))
    assert served.cause is Cause.NOTHING


def test_a_probe_that_opens_and_closes_is_not_blamed_for_a_timeout_during_connect() -> None:
    problem = Problem("connection", f"{OWN}: Fetching http://example.com/: Timeout during connect (likely firewall)")
    assert diagnose(case(attempts=[attempt(syns=1, sent=0)], problem=problem)).cause is Cause.NOTHING


@pytest.mark.parametrize(
    ("detail", "redirected"),
    [
        (f"{OWN}: Fetching https://example.com/x: Connection refused", True),
        ('Get "https://example.com/x": dial tcp 203.0.113.80:443: connect: connection refused', True),
        (f"{OWN}: Fetching http://redirect.example.com/: Timeout during connect", False),
        ('The key authorization file did not match (got "<a href=https://x>")', False),
        ("DNS problem: NXDOMAIN looking up A for www.other.example - check that a DNS record exists", True),
        ("DNS problem: NXDOMAIN looking up A for example.com - check that a DNS record exists", False),
    ],
)
def test_a_redirect_is_recognised_by_the_cas_words_for_it_alone(detail: str, redirected: bool) -> None:
    cause = diagnose(case(problem=Problem("connection", detail))).cause
    assert (cause is Cause.REDIRECTED) == redirected


def test_where_something_was_missed_it_is_not_said_that_nothing_arrived_over_a_version() -> None:
    around = HostFacts(80, ("2001:db8::80",), frozenset({"2001:db8::80"}), watched=False)
    found = diagnose(case(host=around, arrivals=Counter({OWN: 3})))
    assert found.cause is Cause.NOTHING
    assert "no connection attempt" not in words(found)


def test_most_of_the_attempts_decide() -> None:
    attempts = [attempt(refused=True), attempt(observed_syns=1), attempt("198.51.100.2", observed_syns=1)]
    found = diagnose(case(attempts=attempts))
    assert (found.cause, found.count) == (Cause.DROPPED, 2)
    assert found.peers == ("198.51.100.1", "198.51.100.2")


@pytest.mark.parametrize("name", ["example.com", OWN, "2001:db8::80"])
@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_words_that_end_in_a_full_stop(cause: Cause, name: str) -> None:
    text = words(Diagnosis(cause, name, 80, 1, ("192.0.2.1",), (OWN,), ("via",), (4,)))
    assert text.endswith(".")
    assert "{" not in text


@pytest.mark.parametrize("translated", [False, True])
@pytest.mark.parametrize("cause", set(Cause) - {Cause.NAME_TROUBLE})
def test_nothing_is_said_of_names_and_records_where_an_address_was_to_be_certified(
    cause: Cause, translated: bool
) -> None:
    diagnosis = Diagnosis(cause, OWN, 80, 1, ("192.0.2.1",), (OWN,), ("via",), (4,), translated=translated)
    assert not {"name", "name's", "record", "records"} & set(words(diagnosis).split())


def test_names_that_failed_alike_share_a_line_and_there_are_never_more_than_six() -> None:
    alike = [Diagnosis(Cause.NOTHING, f"{number}.example.com", 80) for number in range(6)]
    (line,) = hint(alike).splitlines()
    assert line.startswith("0.example.com, 1.example.com, 2.example.com, 3.example.com and 2 more: no connection")
    different = [Diagnosis(Cause.NOTHING, f"{number}.example.com", number) for number in range(9)]
    lines = hint(different).splitlines()
    assert len(lines) == MAX_LINES
    assert lines[-1] == "And 4 more names, for other reasons; see Certbot's log."
