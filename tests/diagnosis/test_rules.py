"""Causes that can be told apart without a network. tests/e2e has the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import pytest

from certbot_standalone_nfq.diagnosis.attempts import Attempt
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.evidence import Request, Seen
from certbot_standalone_nfq.diagnosis.hints import words
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.rules import Case, HostFacts, diagnose, outcome
from certbot_standalone_nfq.wire.tcp import Connection

OWN, FOREIGN = "203.0.113.80", "203.0.113.99"
OWN_IPV6 = "2001:db8::80"


def attempt(peer: str = "198.51.100.1", local: str = OWN, **facts: Any) -> Attempt:
    return Attempt(Connection(peer, 4000, local, 80), 1, "eth0", **facts)


def request(acknowledged: bool, *headers: str) -> Request:
    return Request(Connection("198.51.100.1", 1, OWN, 80), 0.001, headers, acknowledged)


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
        ("Failed to connect to 203.0.113.5:443 for the tls-alpn-01 challenge", ("203.0.113.5",)),
        ("Failed to connect to [2001:db8::5]:443 for the tls-alpn-01 challenge", ("2001:db8::5",)),
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
    seen = Seen([request(acknowledged=True)], 1)
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


@pytest.mark.parametrize(
    ("requests", "cause", "headers"),
    [
        ([request(False), request(False, "via")], Cause.UNACKNOWLEDGED, ()),
        ([request(False), request(True)], Cause.OTHER_PERSPECTIVE, ()),
        (
            [request(True, "via"), request(True, "x-forwarded-for", "via")],
            Cause.BEHIND_PROXY,
            ("via", "x-forwarded-for"),
        ),
    ],
)
def test_what_became_of_the_answers_is_the_cause(requests: list[Request], cause: Cause, headers: tuple[str]) -> None:
    found = diagnose(case(seen=Seen(requests, 5)))
    assert (found.cause, found.headers, found.count, found.peers) == (cause, headers, 5, ("198.51.100.1",))


def test_requests_that_came_here_and_not_to_the_plugin_were_taken_by_another_program() -> None:
    found = diagnose(case(seen=Seen(unanswered=[attempt(), attempt("2001:db8::1", OWN_IPV6)])))
    assert (found.cause, found.count, found.families) == (Cause.OTHER_PROGRAM, 2, (4, 6))
    assert found.addresses == (OWN, OWN_IPV6)


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"refused": True}, Cause.REFUSED),
        ({"syns": 3, "observed_syns": 2}, Cause.DROPPED),
        ({"syns": 3}, None),
        ({"syns": 3, "observed_syns": 2, "accepted": True}, Cause.RETURN_PATH),
        ({"syns": 2, "accepted": True}, Cause.RETURN_PATH),
        ({"syns": 1, "accepted": True}, None),
    ],
)
def test_how_an_attempt_failed_is_told_by_its_packets(facts: dict[str, Any], cause: Cause | None) -> None:
    assert outcome(attempt(**facts)) is cause


def test_what_the_ca_says_it_connected_to_counts_for_more_than_what_the_name_resolves_to() -> None:
    found = diagnose(case(problem=Problem("connection", f"dial tcp {FOREIGN}:80: i/o timeout")))
    assert (found.cause, found.addresses) == (Cause.NOT_THIS_MACHINE, (FOREIGN,))


def test_a_refusal_at_another_address_is_not_blamed_on_this_attempt() -> None:
    other = "203.0.113.81"
    around = HostFacts(80, (OWN, other), frozenset({OWN, other}))
    problem = Problem("connection", f"dial tcp {other}:80: connect: connection refused")
    assert diagnose(case(host=around, problem=problem, attempts=[attempt(syns=1)])).cause is Cause.NOTHING


@pytest.mark.parametrize(("foreign", "came"), [(FOREIGN, OWN), ("2001:db8::99", OWN_IPV6)])
def test_a_translated_address_is_not_blamed_where_something_came_or_may_have_come(foreign: str, came: str) -> None:
    around = HostFacts(80, (foreign,), frozenset(), translated=True)
    assert diagnose(case(host=around)).cause is Cause.NOT_THIS_MACHINE
    assert diagnose(case(host=around, arrivals=Counter({came: 1}))).cause is Cause.NOTHING
    assert diagnose(case(host=replace(around, watched=False))).cause is Cause.NOTHING


def test_an_attempt_is_not_called_dropped_if_its_answer_may_have_been_missed() -> None:
    around = HostFacts(80, (OWN,), frozenset({OWN}), watched=False)
    assert diagnose(case(host=around, attempts=[attempt(syns=3, observed_syns=2)])).cause is Cause.NOTHING


def test_attempts_count_over_either_ip_version_where_the_ca_names_no_address() -> None:
    for failed in (attempt(refused=True), attempt("2001:db8::1", OWN_IPV6, refused=True)):
        assert diagnose(case(attempts=[failed])).cause is Cause.REFUSED


@pytest.mark.parametrize(("silent", "family", "working"), [(OWN_IPV6, 6, OWN), (OWN, 4, OWN_IPV6)])
def test_one_ip_version_is_the_cause_where_everything_comes_over_the_other(
    silent: str, family: int, working: str
) -> None:
    around = HostFacts(80, (silent, working), frozenset({OWN, OWN_IPV6}))
    found = diagnose(case(host=around, arrivals=Counter({working: 3})))
    assert found.cause is Cause.ONE_FAMILY
    assert (found.families, found.addresses, found.arrived) == ((family,), (silent,), 3)


def test_nothing_is_known_where_others_came_over_both_versions() -> None:
    around = HostFacts(80, (OWN, OWN_IPV6), frozenset({OWN, OWN_IPV6}))
    found = diagnose(case(host=around, arrivals=Counter({OWN: 3, OWN_IPV6: 4})))
    assert (found.cause, found.count, found.arrived) == (Cause.NOTHING, 0, 7)


@pytest.mark.parametrize(
    ("name", "problem", "of_the_name", "other"),
    [
        ("www.example.com", Problem("caa", "no"), True, None),
        ("www.example.com", Problem("connection", "refused"), False, None),
        ("www.example.com", Problem("dns", "NXDOMAIN looking up A for www.example.com"), True, None),
        ("www.example.com", Problem("dns", "NXDOMAIN looking up CAA for Example.com."), True, None),
        ("www.example.com", Problem("dns", "no valid A records found for example.net"), False, "example.net"),
    ],
)
def test_a_name_that_is_neither_this_nor_a_parent_is_anothers(
    name: str, problem: Problem, of_the_name: bool, other: str | None
) -> None:
    assert (problem.is_of_the_name(name), problem.other_name(name)) == (of_the_name, other)


@pytest.mark.parametrize(
    ("acknowledged", "said"),
    [
        ([True, True], "answered, so port 80 works from there"),
        ([True, False], "answered, but 1 answer was not acknowledged, so port 80"),
        ([True, False, False, True], "answered, but 2 answers were not acknowledged, so port 80"),
        ([False, False], "answered, but no answer was acknowledged: "),
    ],
)
def test_how_many_answers_were_not_acknowledged_is_told(acknowledged: list[bool], said: str) -> None:
    found = diagnose(case(seen=Seen([request(each) for each in acknowledged], len(acknowledged))))
    assert said in words(found)


def test_a_diagnosis_says_nothing_that_is_not_known() -> None:
    assert asdict(diagnose(case(host=HostFacts(80)))) == {
        "cause": Cause.NOTHING,
        "name": "example.com",
        "port": 80,
        "count": 0,
        "peers": (),
        "addresses": (),
        "headers": (),
        "families": (),
        "kind": "",
        "arrived": 0,
        "watched": True,
        "translated": False,
        "lost": 0,
        "listening": False,
        "rules": (),
        "asked": "",
        "other_kinds": (),
    }


def test_the_rules_that_may_be_the_reason_go_with_the_cause_that_they_may_explain() -> None:
    host = HostFacts(80, (OWN,), frozenset({OWN}), changing=("one changes",), diverting=("one diverts",))
    unacknowledged = diagnose(case(host=host, seen=Seen([request(acknowledged=False)], 1)))
    assert (unacknowledged.cause, unacknowledged.rules) == (Cause.UNACKNOWLEDGED, ("one changes",))
    taken = diagnose(case(host=host, seen=Seen(unanswered=[attempt()])))
    assert (taken.cause, taken.rules) == (Cause.OTHER_PROGRAM, ("one diverts",))
    unfinished = diagnose(case(host=host, seen=Seen(unfinished=[attempt()])))
    assert (unfinished.cause, unfinished.rules) == (Cause.UNFINISHED, ())


def test_only_the_address_that_was_refused_must_not_have_served_anybody() -> None:
    other = "203.0.113.81"
    host = HostFacts(80, (OWN, other), frozenset({OWN, other}))
    problem = Problem("connection", f"dial tcp {OWN}:80: connect: connection refused")
    found = diagnose(case(host=host, attempts=[attempt(syns=1)], problem=problem, served=Counter({other: 1})))
    assert (found.cause, found.addresses, found.listening) == (Cause.REFUSED, (OWN,), False)


def test_a_program_listens_only_where_it_listens_at_all_addresses() -> None:
    refused = [attempt(refused=True), attempt("2001:db8::1", OWN_IPV6, refused=True)]
    for listening, all_of_them in (({OWN}, False), ({OWN, OWN_IPV6}, True), ({OWN, OWN_IPV6, FOREIGN}, True)):
        host = HostFacts(80, (OWN, OWN_IPV6), frozenset({OWN, OWN_IPV6}), listening=frozenset(listening))
        found = diagnose(case(host=host, attempts=refused))
        assert (found.families, found.addresses, found.listening) == ((4, 6), (OWN, OWN_IPV6), all_of_them)


def test_a_refusal_where_a_program_listens_is_a_rules() -> None:
    refused = [attempt(refused=True)]
    host = HostFacts(80, (OWN,), frozenset({OWN}))
    without = diagnose(case(attempts=refused, host=host))
    assert "Make the web server listen there" in words(without)
    listening = diagnose(case(attempts=refused, host=replace(host, listening=frozenset({OWN}))))
    assert listening.cause is Cause.REFUSED
    assert "a firewall rule rejects them" in words(listening)
    assert "Make the web server listen" not in words(listening)


@pytest.mark.parametrize("others", [0, 1])
def test_requests_that_were_altered_on_their_way_are_not_blamed_on_other_programs(others: int) -> None:
    unanswered = [attempt(challenge="t", altered=True)] + [attempt(challenge="t")] * others
    found = diagnose(case(seen=Seen(unanswered=unanswered)))
    assert found.cause is (Cause.OTHER_PROGRAM if others else Cause.ALTERED)
    assert others or "something added behind the token" in words(found)


TLS = HostFacts(443, (OWN,), frozenset({OWN}))


@pytest.mark.parametrize(
    ("detail", "cause", "said"),
    [
        (
            f"{OWN}: remote error: tls: no application protocol",
            Cause.ANOTHER_ANSWERED,
            f"another TLS server answered the CA at {OWN}",
        ),
        (
            f"{OWN}: Incorrect validation certificate for tls-alpn-01 challenge. Requested example.com from {OWN}:443. "
            "Received 1 certificate(s), first certificate had names",
            Cause.ANOTHER_ANSWERED,
            "or another ACME client",
        ),
        (
            f'{OWN}: Cannot negotiate ALPN protocol "acme-tls/1" for tls-alpn-01 challenge',
            Cause.TLS_TERMINATED,
            f"what answered the CA at {OWN} does not speak tls-alpn-01's protocol: a CDN or proxy",
        ),
        (
            "cannot negotiate ALPN acme-tls/1 protocol for tls-alpn-01 challenge",
            Cause.TLS_TERMINATED,
            "Have it pass TCP port 443 through",
        ),
        (f"{OWN}: Server only speaks HTTP, not TLS", Cause.NOT_TLS, f"what answered the CA at {OWN} speaks HTTP"),
        (f"{OWN}: Timeout during connect (likely firewall problem)", Cause.NOTHING, "no connection attempt arrived"),
    ],
)
def test_what_the_ca_met_in_place_of_this_machine_is_told_by_its_words(detail: str, cause: Cause, said: str) -> None:
    found = diagnose(case(problem=Problem("unauthorized", detail), host=TLS))
    assert found.cause is cause
    assert said in words(found)


def test_another_server_at_another_machines_address_is_no_riddle() -> None:
    problem = Problem("unauthorized", f"{FOREIGN}: remote error: tls: no application protocol")
    assert diagnose(case(problem=problem, host=TLS)).cause is Cause.NOT_THIS_MACHINE


def test_a_dialogue_that_did_not_come_to_its_end_is_told_from_one_that_was_never_ours() -> None:
    arrived = attempt()
    assert diagnose(case(seen=Seen(unfinished=[arrived]))).cause is Cause.UNFINISHED
    assert diagnose(case(seen=Seen(unanswered=[arrived]))).cause is Cause.OTHER_PROGRAM
    assert (
        diagnose(case(seen=Seen([request(acknowledged=True)], 1, unfinished=[arrived]))).cause
        is Cause.OTHER_PERSPECTIVE
    )
