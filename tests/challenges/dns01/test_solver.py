from __future__ import annotations

import itertools

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.engine.protocols import UNDECIDED, Answer, ChallengeId, Declined, Transport, Undecided
from tests.challenges.dns01.messages import (
    KEY_AUTHORIZATION,
    NAME,
    OTHER_KEY_AUTHORIZATION,
    VALUE,
    over_tcp,
    pending_solver,
    query,
    values,
    with_cookie,
)

ID = ChallengeId("dns-01", NAME)
SELECTORS = Dns01Solver.selectors(53)


@pytest.fixture
def solver() -> Dns01Solver:
    return pending_solver()


def answer(solver: Dns01Solver, message: bytes) -> dns.message.Message:
    """Return the response to a query, as dnspython reads it and takes it for one."""
    output = solver.reply(message)
    assert output is not None
    response = dns.message.from_wire(output.data)
    assert dns.message.from_wire(message).is_response(response)
    return response


@pytest.mark.parametrize("typ", ["TXT", "ANY"])
def test_the_value_is_the_key_authorizations_digest_and_is_not_to_be_kept(solver: Dns01Solver, typ: str) -> None:
    """RFC 8555, 8.4."""
    response = answer(solver, query(typ=typ))
    assert values(response) == {VALUE}
    assert [(each.rdclass, each.ttl) for each in response.answer] == [(dns.rdataclass.IN, 0)]
    assert response.flags == dns.flags.QR | dns.flags.AA
    assert response.rcode() == dns.rcode.NOERROR


def test_the_clients_case_is_kept(solver: Dns01Solver) -> None:
    """Resolvers that change it at random take nothing else for an answer."""
    asked = query(NAME.swapcase())
    output = solver.reply(asked)
    assert output is not None
    assert output.data[12 : len(asked)] == asked[12:]


def test_recursion_desired_and_checking_disabled_are_copied(solver: Dns01Solver) -> None:
    for flags in (dns.flags.RD, dns.flags.CD, dns.flags.RD | dns.flags.CD | dns.flags.AD):
        message = dns.message.make_query(NAME, "TXT")
        message.flags = flags
        assert answer(solver, message.to_wire()).flags == dns.flags.QR | dns.flags.AA | flags & ~dns.flags.AD


def test_several_challenges_for_one_name_are_answered_together_until_each_is_removed(solver: Dns01Solver) -> None:
    """As for a name and its wildcard."""
    solver.add(NAME.upper(), OTHER_KEY_AUTHORIZATION)
    solver.add(NAME, OTHER_KEY_AUTHORIZATION)
    assert len(values(answer(solver, query()))) == 2
    solver.remove(NAME, OTHER_KEY_AUTHORIZATION)
    assert values(answer(solver, query())) == {VALUE}
    solver.remove(NAME, OTHER_KEY_AUTHORIZATION)
    assert solver.pending_keys() == [dns.name.from_text(NAME).to_wire()]
    solver.remove(NAME, KEY_AUTHORIZATION)
    assert solver.pending_keys() == []
    assert solver.reply(query()) is None
    solver.remove(NAME, KEY_AUTHORIZATION)


@pytest.mark.parametrize("typ", ["A", "AAAA", "NS", "SOA", "CNAME", "MX", "CAA", "HTTPS", "DNSKEY", "TYPE65280"])
def test_every_other_type_is_said_not_to_be_there_and_that_is_not_to_be_kept(solver: Dns01Solver, typ: str) -> None:
    """RFC 2308, 2.2 and 5. Minimising resolvers (RFC 9156) ask for another type first."""
    response = answer(solver, query(typ=typ))
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
    (soa,) = response.authority
    assert (soa.rdtype, soa.rdclass, soa.ttl, soa[0].minimum) == (dns.rdatatype.SOA, dns.rdataclass.IN, 0, 0)
    assert soa.name == response.question[0].name


def test_ds_is_the_servers_and_so_is_every_other_name(solver: Dns01Solver) -> None:
    assert solver.reply(query(typ="DS")) is None
    for name in (
        "example.com",
        "_acme-challenge.example.org",
        f"x.{NAME}",
        "_acme-challenge",
        "acme-challenge.example.com",
    ):
        assert solver.reply(query(name)) is None


def test_another_version_of_edns_is_the_servers_to_refuse(solver: Dns01Solver) -> None:
    assert solver.reply(query(edns=1232)) is not None
    message = bytearray(query(edns=1232))
    message[-5] = 1
    assert dns.message.from_wire(bytes(message)).edns == 1
    assert solver.reply(bytes(message)) is None


def test_edns_is_answered_with_edns_and_a_size_that_no_network_fragments(solver: Dns01Solver) -> None:
    assert answer(solver, query()).edns == -1
    for dnssec in (False, True):
        response = answer(solver, query(edns=4096, dnssec=dnssec))
        assert (response.edns, response.payload) == (0, 1232)
        assert response.ednsflags == (dns.flags.DO if dnssec else 0)


@pytest.mark.parametrize("length", [8, 16, 24, 40])
def test_a_cookie_that_the_server_has_given_comes_back(solver: Dns01Solver, length: int) -> None:
    """RFC 7873, 5.3: without it, a client that has one discards the answer."""
    cookie = bytes(range(length))
    options = [(int(option.otype), option.to_wire()) for option in answer(solver, with_cookie(cookie)).options]
    assert options == ([(10, cookie)] if length >= 16 else [])


@pytest.mark.parametrize(("edns", "whole"), [(None, 8), (0, 8), (512, 8), (800, 13), (1232, 21), (4096, 21)], ids=str)
def test_an_answer_that_is_too_long_asks_for_tcp_and_comes_whole_over_tcp(edns: int | None, whole: int) -> None:
    solver = Dns01Solver()
    for number in range(whole):
        solver.add(NAME, f"{number}.thumbprint")
    asked = query(edns=edns)
    assert len(values(answer(solver, asked))) == whole
    solver.add(NAME, "one more.thumbprint")
    truncated = solver.reply(asked)
    assert truncated is not None
    assert truncated.answer is None
    assert dns.message.from_wire(truncated.data).flags & dns.flags.TC
    assert not dns.message.from_wire(truncated.data).answer
    conversation = solver.recognise(over_tcp(asked))
    assert conversation is not None
    assert not isinstance(conversation, (Declined, Undecided))
    over = conversation.receive(over_tcp(asked), ended=False).data
    assert len(values(dns.message.from_wire(over[2:]))) == whole + 1


def test_what_was_answered_is_told_by_its_name_if_the_value_was_asked_for(solver: Dns01Solver) -> None:
    told = [solver.reply(query(typ=typ)) for typ in ("TXT", "ANY", "NS")]
    assert [output and output.answer for output in told] == [Answer(ID), Answer(ID), None]
    assert Dns01Solver.key("Example.COM", "token") == NAME


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        Dns01Solver().add(f"_acme-challenge.{'x' * 64}.example", KEY_AUTHORIZATION)


def test_a_stream_is_recognised_once_its_first_query_is_whole(solver: Dns01Solver) -> None:
    stream = over_tcp(query(edns=1232))
    for length in range(len(stream)):
        assert solver.recognise(stream[:length]) is UNDECIDED, length
    assert solver.recognise(stream) not in (None, UNDECIDED)
    assert solver.recognise(stream + b"more") not in (None, UNDECIDED)
    assert solver.recognise((2048).to_bytes(2, "big") + query()) is UNDECIDED
    assert Dns01Solver().recognise(stream) is None


@pytest.mark.parametrize(
    "stream",
    [
        over_tcp(query("example.com")),
        over_tcp(query(typ="DS")),
        over_tcp(query("example.com"), query()),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0",
        b"\0\x0c",
        b"\0\x0c" + bytes(12),
        b"\x08\x01" + query(),
        b"\0\x40\0\0\x80",
    ],
    ids=itertools.count(),
)
def test_another_stream_is_the_servers(solver: Dns01Solver, stream: bytes) -> None:
    assert solver.recognise(stream) is None


def test_the_challenge_that_is_asked_for_is_named_pending_or_not() -> None:
    for message in (query(), query(typ="ANY")[:-4] + b"\0\x10\0\1"):
        assert Dns01Solver.question_in(message) == (ID, "TXT")
        assert Dns01Solver.challenge_in(over_tcp(message)) == ID
    for message in (query("example.com"), query(typ="A"), b"", query()[:-1]):
        assert Dns01Solver.challenge_in(over_tcp(message)) is None


@pytest.mark.parametrize("typ", ["NS", "A", "CAA", "DS", "TYPE65280"])
def test_a_datagrams_question_is_named_whatever_it_asks_for(typ: str) -> None:
    assert Dns01Solver.question_in(query("www.example.com", typ)) == (ChallengeId("dns-01", "www.example.com"), typ)
    assert Dns01Solver.question_in(b"") is Dns01Solver.question_in(query()[:-1]) is None


@pytest.mark.parametrize("typ", ["TXT", "NS", "A"])
def test_queries_for_the_label_are_selected_in_any_case_and_little_else(typ: str) -> None:
    by_transport = {selector.transport: selector for selector in SELECTORS}
    udp, tcp = by_transport[Transport.UDP], by_transport[Transport.TCP]
    assert all(selector.port == 53 and selector.by_question for selector in SELECTORS)
    for name in (NAME, NAME.swapcase(), "_acme-challenge.a.b.c"):
        message = query(name, typ, edns=1232)
        assert udp.matches(message)
        assert all(tcp.matches(over_tcp(message)[:length]) for length in range(1, len(message) + 3))
        assert not udp.matches(message[:27])
        assert not udp.matches(message[:2] + b"\x84" + message[3:])
    for name in ("example.com", "_acme-challengf.example.com", "_acme-challenges.example.com", f"a.{NAME}"):
        assert not udp.matches(query(name, typ))
        assert not tcp.matches(over_tcp(query(name, typ)))


def test_queries_are_selected_whatever_flags_they_have() -> None:
    for flags in (dns.flags.RD, dns.flags.AD, dns.flags.CD):
        message = query()[:2] + int(flags).to_bytes(2, "big") + query()[4:]
        assert any(selector.matches(message) for selector in SELECTORS if selector.transport is Transport.UDP)


@pytest.mark.parametrize("bit", range(8))
def test_of_the_label_nothing_but_the_case_of_letters_is_ignored(bit: int) -> None:
    (udp,) = (selector for selector in SELECTORS if selector.transport is Transport.UDP)
    label = bytes([len("_acme-challenge")]) + b"_acme-challenge"
    for place, byte in enumerate(label, start=12):
        changed = bytearray(query())
        changed[place] ^= 1 << bit
        assert udp.matches(bytes(changed)) == (bit == 5 and chr(byte).isalpha())


def test_exact_names_are_selected_for_where_the_label_leads_elsewhere() -> None:
    target = "d420c923-bbd7-4056-ab64-c3ca54c9b3cf.auth.example.net"
    selectors = Dns01Solver.selectors(53, [target, "short.example"])
    for name in (NAME, target, "short.example"):
        assert any(selector.matches(query(name)) for selector in selectors if selector.transport is Transport.UDP)
        assert any(
            selector.matches(over_tcp(query(name))) for selector in selectors if selector.transport is Transport.TCP
        )
    for name in (f"x.{target}", target[1:], "short.example.com", "example"):
        assert not any(selector.matches(query(name)) for selector in selectors)


@given(st.binary(max_size=300))
def test_no_bytes_trouble_the_solver(octets: bytes) -> None:
    solver = pending_solver()
    solver.reply(octets)
    solver.recognise(octets)
    solver.challenge_in(octets)
    assert not solver.is_altered(octets)
