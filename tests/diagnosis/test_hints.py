"""The words for each cause."""

from __future__ import annotations

from typing import Any

import pytest

from certbot_standalone_nfq.diagnosis import dns_hints
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.hints import MAX_LINES, explained, hint, words
from certbot_standalone_nfq.diagnosis.rules import Diagnosis

OWN, OTHER, OWN_IPV6 = "203.0.113.80", "203.0.113.81", "2001:db8::80"


@pytest.mark.parametrize("name", ["example.com", OWN, "2001:db8::80"])
@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_words_that_end_in_a_full_stop(cause: Cause, name: str) -> None:
    text = words(Diagnosis(cause, name, 80, 1, ("192.0.2.1",), (OWN,), ("via",), (4,)))
    assert text.endswith(".")
    assert "{" not in text


@pytest.mark.parametrize("translated", [False, True])
@pytest.mark.parametrize("cause", sorted(set(Cause) - {Cause.NAME_TROUBLE} - set(dns_hints.WORDS), key=str))
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


def test_remarks_come_first_and_take_their_room_from_the_rest() -> None:
    different = [Diagnosis(Cause.NOTHING, f"{number}.example.com", number) for number in range(9)]
    for remarks in (["one remark"], ["one remark", "another"]):
        lines = hint(different, remarks).splitlines()
        assert len(lines) == MAX_LINES
        assert lines[: len(remarks)] == remarks
        left = 9 - (MAX_LINES - len(remarks) - 1)
        assert lines[-1] == f"And {left} more names, for other reasons; see Certbot's log."


def test_as_many_names_and_lines_as_there_is_room_for_are_all_shown() -> None:
    alike = [Diagnosis(Cause.NOTHING, f"{number}.example.com", 80) for number in range(4)]
    assert hint(alike).startswith("0.example.com, 1.example.com, 2.example.com, 3.example.com: no")
    different = [Diagnosis(Cause.NOTHING, "example.com", number) for number in range(MAX_LINES)]
    assert hint(different).splitlines() == [f"example.com: {explained(diagnosis)}" for diagnosis in different]


@pytest.mark.parametrize("cause", Cause)
def test_a_hint_ends_with_where_the_documents_explain_its_cause(cause: Cause) -> None:
    diagnosis = Diagnosis(cause, "example.com", 80, 1, ("192.0.2.1",), (OWN,), ("via",), (4,))
    assert hint([diagnosis]) == f"example.com: {words(diagnosis)} More: {cause.address}"
    assert cause.address.endswith(f"/diagnosis/#{cause.name.lower()}")


@pytest.mark.parametrize(
    ("cause", "facts", "said"),
    [
        (Cause.UNACKNOWLEDGED, {}, "outgoing firewall rules, routing, MTU."),
        (Cause.UNACKNOWLEDGED, {"rules": ("one", "two")}, "MTU; and the rule that changes packets on their way: one."),
        (Cause.OTHER_PROGRAM, {}, "first: another ACME client, a rule that redirects without connection tracking. Run"),
        (Cause.OTHER_PROGRAM, {"rules": ("one", "two")}, "perhaps the program that this rule is for: one. Run"),
        (Cause.NOTHING, {}, "no connection attempt arrived at TCP port 80 of this machine. Check"),
        (Cause.NOTHING, {"arrived": 1}, "this machine, although 1 other connection attempt did. Check"),
        (
            Cause.NOTHING,
            {"arrived": 2},
            "no challenge request arrived at TCP port 80 of this machine, although 2 other",
        ),
        (Cause.NOTHING, {"watched": False}, "no challenge request reached this plugin. Check"),
        (Cause.NOTHING, {}, "lead to this machine and that"),
        (Cause.NOTHING, {"addresses": (OWN,)}, f"lead to this machine (found: {OWN}) and that"),
        (Cause.REDIRECTED, {}, "no challenge request arrived here, and the CA was redirected. Something in front of"),
        (Cause.REDIRECTED, {"watched": False}, "no challenge request reached this plugin, and the CA was redirected"),
        (Cause.REDIRECTED, {}, "in front of this machine answers port 80"),
        (Cause.REDIRECTED, {"addresses": (OWN,)}, f"in front of this machine at {OWN} answers port 80"),
        (Cause.NOT_THIS_MACHINE, {"addresses": (OWN,)}, f"{OWN}, which is not an address of this machine. Correct its"),
        (Cause.NOT_THIS_MACHINE, {"addresses": (OWN, OTHER)}, f"{OWN}, {OTHER}, which are not addresses of this"),
        (Cause.NOT_THIS_MACHINE, {"translated": True}, "to this machine, or correct the name's A and AAAA records."),
        (
            Cause.ONE_FAMILY,
            {"families": (6,), "addresses": (OWN_IPV6,), "arrived": 1},
            f"over IPv6, although the name has the AAAA record {OWN_IPV6}; over IPv4, 1 connection attempt did. Open",
        ),
        (
            Cause.ONE_FAMILY,
            {"families": (4,), "addresses": (OWN,), "arrived": 2},
            f"over IPv4, although the name has the A record {OWN}; over IPv6, 2 connection attempts did. Open",
        ),
        (Cause.OTHER_PERSPECTIVE, {"count": 1, "peers": ("192.0.2.1",)}, "1 challenge request from 192.0.2.1 arrived"),
        (Cause.OTHER_PERSPECTIVE, {"count": 1}, "arrived and was answered, so port 80 works"),
        (Cause.OTHER_PERSPECTIVE, {"count": 2, "lost": 1}, "were answered, but 1 answer was not acknowledged, so"),
        (Cause.OTHER_PERSPECTIVE, {"count": 2, "lost": 2}, "were answered, but 2 answers were not acknowledged, so"),
        (Cause.NAME_TROUBLE, {}, "the CA could not look it up in the DNS. Correct its DNS zone"),
        (
            Cause.NAME_TROUBLE,
            {"count": 1},
            "in the DNS (1 challenge request did arrive here and was answered). Correct",
        ),
        (Cause.NAME_TROUBLE, {"count": 2}, "in the DNS (2 challenge requests did arrive here and were answered). Corr"),
        (Cause.NAME_TROUBLE, {"kind": "dnssec"}, "the DNSSEC validation of its DNS records failed at the CA. Correct"),
        (Cause.DROPPED, {"count": 1, "families": (4, 6)}, "1 connection attempt over IPv4 and IPv6 (from ) reached"),
        (Cause.DROPPED, {"count": 2, "families": (6,)}, "2 connection attempts over IPv6 (from ) reached this machine"),
        (
            Cause.REFUSED,
            {"count": 1},
            "1 connection over  (from ) was refused by this machine: nothing listens on port",
        ),
        (Cause.REFUSED, {"count": 2, "addresses": (OWN,)}, "2 connections over  (from ) were refused by this machine"),
        (Cause.REFUSED, {"addresses": (OWN,), "listening": True}, f"although a program listens on port 80 of {OWN}: a"),
        (Cause.BEHIND_PROXY, {"headers": ("via", "x")}, "came through a proxy or CDN at  (headers via, x). If"),
        (Cause.NO_QUERY, {"asked": "a.b"}, "no query for the TXT records of a.b arrived here. Check that a.b is"),
        (Cause.NO_QUERY, {"other_kinds": ("A", "NS")}, "arrived here, although queries for its A, NS records did. Che"),
        (Cause.FORBIDDEN, {}, "forbids the CA to issue. Check the issue"),
        (Cause.FORBIDDEN, {"count": 1}, "issue (1 query did arrive here and was answered). Check the issue"),
        (Cause.FORBIDDEN, {"count": 2}, "issue (2 queries did arrive here and were answered). Check the issue"),
        (Cause.QUERY_TAKEN, {"count": 2, "asked": "a.b"}, "2 queries for a.b arrived at this machine"),
    ],
)
def test_only_what_was_seen_is_said(cause: Cause, facts: dict[str, Any], said: str) -> None:
    assert said in words(Diagnosis(cause, "example.com", 80, **facts))


@pytest.mark.parametrize(("translated", "cure"), [(True, "Forward TCP port 80"), (False, "Request the certificate on")])
def test_an_address_of_another_machine_is_forwarded_or_certified_there(translated: bool, cure: str) -> None:
    diagnosis = Diagnosis(Cause.NOT_THIS_MACHINE, OWN, 80, addresses=(OWN,), translated=translated)
    assert f"{OWN} is not an address of this machine. {cure}" in words(diagnosis)
