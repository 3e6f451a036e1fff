"""Which streams are handshakes for a pending name."""

from __future__ import annotations

import gc
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.tls_alpn01.client_hello import read
from certbot_standalone_nfq.challenges.tls_alpn01.context import context
from certbot_standalone_nfq.challenges.tls_alpn01.conversation import TlsConversation
from certbot_standalone_nfq.challenges.tls_alpn01.solver import MAX_CONVERSATIONS, TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import UNDECIDED, ChallengeId, Declined
from lab.tls import ACME, HELLOS, MANY, VISITOR, TlsClient, client_hello
from tests.wire.proxies import PROXY_HEADERS

NAME = "example.com"
GO = {"go1.19": "example.com", "go1.26": "198.51.100.2"}
CONTEXT = context(NAME, "token.thumbprint")
(SELECTOR,) = TlsAlpn01Solver.selectors(443)


def solver(*names: str) -> TlsAlpn01Solver:
    """Return one whose certificates are all the same, as making them takes its time."""
    made = TlsAlpn01Solver(lambda *_: CONTEXT)
    for name in names:
        made.add(made.key(name, "token"), "token.thumbprint")
    return made


def test_a_handshake_for_a_pending_name_is_recognised_whatever_its_case() -> None:
    assert isinstance(solver(NAME).recognise(client_hello("EXAMPLE.com")), TlsConversation)
    assert isinstance(solver("Example.COM").recognise(client_hello(NAME)), TlsConversation)


def test_the_certificate_is_the_one_for_the_name() -> None:
    pending = TlsAlpn01Solver()
    for name in ("one.example", "two.example"):
        pending.add(name, f"{name}.thumbprint")
    shown = set()
    for name in ("one.example", "two.example"):
        client = TlsClient(name)
        hello = client.hear()
        conversation = pending.recognise(hello)
        assert isinstance(conversation, TlsConversation)
        finished = client.hear(conversation.receive(hello, ended=False).data)
        answer = conversation.receive(finished, ended=False).answer
        assert answer
        assert answer.challenge == ChallengeId("tls-alpn-01", name)
        assert name.encode() in client.certificate
        shown.add(client.certificate)
    assert len(shown) == 2


@pytest.mark.parametrize("hello", GO)
def test_gos_handshakes_are_recognised_once_name_and_protocol_have_come(hello: str) -> None:
    start = (HELLOS / hello).read_bytes()
    pending = solver(GO[hello])
    found = [pending.recognise(start[:length]) for length in range(len(start) + 1)]
    decided = [isinstance(each, TlsConversation) for each in found]
    first = decided.index(True)
    assert found[:first] == [UNDECIDED] * first
    del found
    assert all(decided[first:][:MAX_CONVERSATIONS])
    assert first <= 300


@pytest.mark.parametrize("protocols", [VISITOR, MANY, ("h2",), (*ACME, "h2"), ("acme-tls/2",)])
def test_a_visitors_handshake_is_the_servers(protocols: tuple[str, ...]) -> None:
    start = client_hello(NAME, protocols)
    assert solver(NAME).recognise(start) is None
    assert TlsAlpn01Solver.challenge_in(start) is None
    assert not SELECTOR.matches(start)


@pytest.mark.parametrize("name", ["other.example", "www.example.com", "xample.com"])
def test_a_handshake_for_another_name_is_the_servers(name: str) -> None:
    start = client_hello(name)
    assert solver(NAME).recognise(start) is None
    assert SELECTOR.matches(start)
    assert TlsAlpn01Solver.challenge_in(start) == ChallengeId("tls-alpn-01", name)


def test_a_handshake_for_no_name_or_for_what_is_none_asks_for_no_challenge() -> None:
    start = client_hello(NAME)
    for changed in (start.replace(b"example.com", b"ex\xe4mple.com"), client_hello("192.0.2.1")):
        assert read(changed).protocols == (b"acme-tls/1",)
        assert TlsAlpn01Solver.challenge_in(changed) is None


def test_without_anything_pending_everything_is_the_servers() -> None:
    assert solver().recognise(client_hello(NAME)) is None
    assert solver().recognise(b"") is None
    assert solver(NAME).recognise(b"") is UNDECIDED


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\1\0\2", b"\x16\x03\x01\0\x05\2"]
)
def test_what_is_no_handshake_is_the_servers(start: bytes) -> None:
    assert solver(NAME).recognise(start) is None
    assert TlsAlpn01Solver.challenge_in(start) is None


def test_who_is_refused_learns_that_the_name_is_unknown() -> None:
    client = TlsClient(NAME)
    client.hear()
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        client.hear(TlsAlpn01Solver.refusal)


@pytest.mark.parametrize("place", [0, 1, 5])
def test_what_does_not_begin_as_a_handshake_is_not_selected(place: int) -> None:
    start = bytearray(client_hello(NAME))
    assert SELECTOR.matches(bytes(start))
    start[place] += 1
    assert not SELECTOR.matches(bytes(start))


def test_a_longer_list_of_protocols_is_not_selected() -> None:
    start, lengths = client_hello(NAME), b"\x00\x0d\x00\x0b"
    assert lengths in start
    assert not SELECTOR.matches(start.replace(lengths, b"\x01" + lengths[1:]))


def test_handshakes_are_selected_by_their_protocol_and_looked_up_by_their_name() -> None:
    assert SELECTOR.by_server_name
    assert SELECTOR.port == 443


def test_a_challenge_is_answered_until_it_is_removed() -> None:
    pending = solver(NAME, "other.example")
    pending.remove(NAME)
    pending.remove(NAME)
    assert pending.recognise(client_hello(NAME)) is None
    assert isinstance(pending.recognise(client_hello("other.example")), TlsConversation)
    assert pending.pending_keys() == [b"other.example"]


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "1.0.0.0." + "0.0.0.0." * 5 + "8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_an_address_is_asked_for_by_its_reverse_name_and_certified_as_it_is(address: str, key: str) -> None:
    certified: list[tuple[str, str]] = []

    def make_context(subject: str, key_authorization: str) -> ssl.SSLContext:
        certified.append((subject, key_authorization))
        return CONTEXT

    pending = TlsAlpn01Solver(make_context)
    assert pending.key(address, "token") == key
    pending.add(key, "token.thumbprint")
    assert certified == [(address, "token.thumbprint")]
    assert isinstance(pending.recognise(client_hello(key)), TlsConversation)


@pytest.mark.parametrize("name", ["", "exämple.com", "x.in-addr.arpa"])
def test_a_key_that_no_ca_asks_for_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TlsAlpn01Solver().add(name, "token.thumbprint")


@pytest.mark.parametrize("name", ["", "exämple.com"])
def test_what_is_no_server_name_is_refused_before_a_certificate_is_made(name: str) -> None:
    pending = solver()
    with pytest.raises(ValueError, match="not a server name"):
        pending.add(name, "token.thumbprint")
    assert pending.pending_keys() == []


def test_beyond_so_many_handshakes_at_a_time_the_server_gets_them() -> None:
    pending, start = solver(NAME), client_hello(NAME)
    held = [pending.recognise(start) for _ in range(MAX_CONVERSATIONS)]
    assert all(isinstance(each, TlsConversation) for each in held)
    assert isinstance(pending.recognise(start), Declined)
    ended = held[0]
    assert isinstance(ended, TlsConversation)
    ended.receive(b"nonsense", ended=True)
    assert isinstance(pending.recognise(start), TlsConversation)
    held[0] = pending.recognise(start)
    assert isinstance(pending.recognise(start), Declined)
    del held, ended
    gc.collect()
    assert isinstance(pending.recognise(start), TlsConversation)


@pytest.mark.parametrize("hello", GO)
@pytest.mark.parametrize("header", [b"", *PROXY_HEADERS.values()])
def test_gos_handshakes_are_selected_whole_and_cut_anywhere_behind_the_protocol(hello: str, header: bytes) -> None:
    start = (HELLOS / hello).read_bytes()
    end = start.index(b"acme-tls/1") + len(b"acme-tls/1")
    assert all(SELECTOR.matches(header + start[:length]) for length in range(end, len(start) + 1))
    assert not SELECTOR.matches(header + start[: end - 1])


@given(start=st.binary(max_size=100), cut=st.integers(0, 300))
def test_no_bytes_trouble_it(start: bytes, cut: int) -> None:
    pending = solver(NAME)
    for beginning in (start, (HELLOS / "go1.19").read_bytes()[:cut] + start):
        pending.recognise(beginning)
        TlsAlpn01Solver.challenge_in(beginning)
        assert not TlsAlpn01Solver.is_altered(beginning)
