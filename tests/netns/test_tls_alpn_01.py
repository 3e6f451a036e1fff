"""TLS-ALPN-01 past a server that has port 443: over networks of all kinds, and to visitors of all kinds."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from certbot_standalone_nfq.challenges.tls_alpn01.certificate import identifier
from certbot_standalone_nfq.challenges.tls_alpn01.context import context
from certbot_standalone_nfq.challenges.tls_alpn01.solver import MAX_CONVERSATIONS, TlsAlpn01Solver
from lab import hosts
from lab.hosts import Host, kernel_can
from lab.interceptor import BY_RULES, EBPF, IPTABLES, KEY_AUTHORIZATION, KINDS, VARIANTS, intercepting
from lab.nginx import nginx
from lab.processes import wait_until
from lab.shuffler import LOST
from lab.tls import (
    ACME,
    HELLOS,
    MANY,
    VISITOR,
    certificate_at,
    client_context,
    client_hello,
    listen,
    proof,
    shake_hands,
)
from tests.netns.conftest import Lab
from tests.netns.test_proxied import QUEUE, queued
from tests.wire.proxies import PROXY_HEADERS

NAME = "example.com"
GO = {"go1.19": "example.com", "go1.26": "2.100.51.198.in-addr.arpa"}
PENDING = dict.fromkeys([NAME, *GO.values()], KEY_AUTHORIZATION)
PROOF = identifier(KEY_AUTHORIZATION)
WAYS = [*((variant, "prefilter") for variant in (*VARIANTS, *EBPF)), *((kind, "port") for kind in KINDS)]
LONGEST_FOR_NGINX = 107
SERVER_HELLO = b"\x16\x03\x03"


@contextlib.contextmanager
def answering(host: Host, port: int = 443, **settings: object) -> Iterator[None]:
    with intercepting(host, PENDING, port, TlsAlpn01Solver, **settings):
        yield


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A client, and a server whose nginx has port 443."""
    folder = tmp_path_factory.mktemp("tls")
    with hosts.pair() as (client, server), nginx(server, folder / "nginx", 443, listen(folder / "tls")) as running:
        yield Lab(client, server, running, folder)


@pytest.fixture(params=WAYS, ids="-".join)
def active(tls: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    variant, selection = request.param
    with answering(tls.server, capture=variant, selection=selection):
        yield tls


@pytest.fixture(scope="module")
def prefiltered(tls: Lab) -> Iterator[Lab]:
    with answering(tls.server, queue=QUEUE, capture=BY_RULES):
        yield tls


@pytest.fixture(params=[BY_RULES, *EBPF])
def selective(tls: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Where the kernel selects: by rules that stand for all tests, or by eBPF, which comes before them."""
    if request.param == BY_RULES:
        yield request.getfixturevalue("prefiltered")
        return
    with answering(tls.server, capture=request.param):
        yield tls


@pytest.fixture(params=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def is_served(client: Host, address: str, protocols: Sequence[str] = VISITOR, name: str = NAME) -> bool:
    """Whether a visitor gets the server's certificate, or its refusal if it asks for the challenge's protocol."""
    try:
        return proof(certificate_at(client, address, name, protocols)) == b""
    except ssl.SSLError as error:
        return protocols == ACME and "no application protocol" in str(error)


@pytest.mark.firewall
def test_a_challenge_is_answered_and_visitors_are_served(active: Lab, family: str) -> None:
    address = getattr(active.server, family)
    assert proof(certificate_at(active.client, address, NAME)) == PROOF
    assert proof(certificate_at(active.client, address, GO["go1.26"])) == PROOF
    for protocols in (VISITOR, MANY, ("h2",)):
        assert is_served(active.client, address, protocols)
    assert is_served(active.client, address, ACME, "other.example")


def test_no_visitors_handshake_leaves_the_kernel(prefiltered: Lab, family: str) -> None:
    """Where nft's rules do not look far enough into packets, the ClientHello does."""
    address = getattr(prefiltered.server, family)
    offered = (VISITOR, MANY, ("h2",), (*ACME, *VISITOR))
    before = queued(prefiltered)
    for protocols in offered:
        assert is_served(prefiltered.client, address, protocols)
    searched = BY_RULES != "nftables" or kernel_can("nft", "add table t; add chain t c; add rule t c @th,2048,8 0")
    segments = len(offered) + 1  # one ClientHello takes two: MANY's
    assert queued(prefiltered) - before == (0 if searched else segments)


def test_it_ends_without_a_reset_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    with (
        hosts.pair() as (client, server),
        nginx(server, tmp_path / "nginx", 443, listen(tmp_path / "tls")),
        answering(server),
    ):
        hosts.retransmit_late(client)
        before = client.complaints()
        for address in (server.ipv4, server.ipv6):
            for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                connection = client.connect(address, 443)
                assert proof(shake_hands(connection, NAME, client_context(ACME, newest))) == PROOF
        wait_until(lambda: "443" not in client.run("ss", "-tnH", "exclude", "time-wait"), "all is closed")
        assert client.complaints() == before


def first_bytes(client: Host, address: str, *pieces: bytes) -> bytes:
    """Send a segment for each piece; return how what comes back begins."""
    with client.connect(address, 443) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        return connection.recv(3, socket.MSG_WAITALL)


@pytest.mark.anywhere
@pytest.mark.parametrize("hello", GO)
def test_gos_handshakes_are_answered_however_they_are_cut_behind_the_protocol(selective: Lab, hello: str) -> None:
    start = (HELLOS / hello).read_bytes()
    end = start.index(b"acme-tls/1") + len(b"acme-tls/1")
    cuts = range(end, len(start))
    answers = [first_bytes(selective.client, selective.server.ipv4, start[:cut], start[cut:]) for cut in cuts]
    assert answers == [SERVER_HELLO] * len(cuts)


@pytest.mark.parametrize("hello", GO)
@pytest.mark.parametrize("size", [300, 400, 536])
def test_gos_handshakes_are_answered_in_small_segments(selective: Lab, hello: str, size: int) -> None:
    with selective.client.inside(), socket.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size)
        connection.connect((selective.server.ipv4, 443))
        connection.sendall((HELLOS / hello).read_bytes())
        assert connection.recv(3, socket.MSG_WAITALL) == SERVER_HELLO


@pytest.mark.parametrize("size", [300, 400, 536])
def test_a_handshake_is_completed_in_small_segments(selective: Lab, size: int) -> None:
    with selective.client.inside():
        connection = socket.socket()
        connection.settimeout(15)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size)
        connection.connect((selective.server.ipv4, 443))
    assert proof(shake_hands(connection, NAME)) == PROOF


@contextlib.contextmanager
def losing(host: Host, share: float) -> Iterator[None]:
    """Lose so much of what a host's port 443 is sent and sends, for a while."""
    lost = ("-m", "statistic", "--mode", "random", "--probability", str(share), *LOST)
    hooks = (("PREROUTING", "--sport"), ("POSTROUTING", "--dport"))
    rules = [(hook, "-p", "tcp", end, "443", *lost) for hook, end in hooks]
    for rule in rules:
        host.run("iptables", "-t", "mangle", "-A", *rule)
    try:
        yield
    finally:
        for rule in rules:
            host.run("iptables", "-t", "mangle", "-D", *rule)


def test_many_are_answered_over_a_cable_that_loses_much(selective: Lab) -> None:
    client, address = selective.client, selective.server.ipv4

    def validated(_: int) -> bool:
        return proof(shake_hands(client.connect(address, 443, timeout=90), NAME)) == PROOF

    with losing(client, 0.15), concurrent.futures.ThreadPoolExecutor(25) as validators:
        assert list(validators.map(validated, range(100))) == [True] * 100


def test_beyond_so_many_at_a_time_the_server_gets_them(prefiltered: Lab) -> None:
    client, address, hello = prefiltered.client, prefiltered.server.ipv4, client_hello(NAME)
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONVERSATIONS):
            held = stack.enter_context(client.connect(address, 443))
            held.sendall(hello)
            assert held.recv(3, socket.MSG_WAITALL) == SERVER_HELLO
        assert is_served(client, address, ACME)
    assert proof(certificate_at(client, address, NAME)) == PROOF


@pytest.mark.parametrize("capture", EBPF)
def test_beyond_so_many_at_a_time_with_ebpf_they_wait_until_one_ends(tls: Lab, capture: str) -> None:
    client, address, hello = tls.client, tls.server.ipv4, client_hello(NAME)
    with answering(tls.server, capture=capture), contextlib.ExitStack() as stack:
        held = [stack.enter_context(client.connect(address, 443)) for _ in range(MAX_CONVERSATIONS)]
        for connection in held:
            connection.sendall(hello)
            assert connection.recv(3, socket.MSG_WAITALL) == SERVER_HELLO
        before = client.counter("TcpRetransSegs")
        one_more = client.connect(address, 443, timeout=60)
        with concurrent.futures.ThreadPoolExecutor(1) as validator:
            shown = validator.submit(shake_hands, one_more, NAME)
            wait_until(lambda: client.counter("TcpRetransSegs") > before, "its ClientHello is repeated")
            held[0].close()
            assert proof(shown.result()) == PROOF


def test_a_client_whose_keys_are_not_those_asked_for_is_asked_again(tls: Lab) -> None:
    def of_one_group(subject: str, key_authorization: str) -> ssl.SSLContext:
        made = context(subject, key_authorization)
        made.set_ecdh_curve("secp384r1")
        return made

    class OfOneGroup(TlsAlpn01Solver):
        def __init__(self) -> None:
            super().__init__(of_one_group)

    with intercepting(tls.server, PENDING, 443, OfOneGroup):
        assert proof(certificate_at(tls.client, tls.server.ipv4, NAME)) == PROOF


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_is_answered_on_the_loopback_interface(selective: Lab, address: str) -> None:
    assert proof(certificate_at(selective.server, address, NAME)) == PROOF
    assert is_served(selective.server, address)


@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_a_published_port_is_answered(tmp_path: Path, variant: str) -> None:
    with hosts.pair() as (client, server), hosts.host("d") as behind:
        hosts.publish(server, behind, 8443, published=443)
        with (
            nginx(behind, tmp_path / "nginx", 8443, listen(tmp_path / "tls", 8443)),
            answering(server, capture=variant),
        ):
            for address in (server.ipv4, server.ipv6):
                assert proof(certificate_at(client, address, NAME)) == PROOF
                assert is_served(client, address)


@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_a_redirected_port_is_answered(tmp_path: Path, variant: str) -> None:
    with hosts.pair() as (client, server):
        for program in ("iptables", "ip6tables"):
            redirect = ("-p", "tcp", "--dport", "443", "-j", "REDIRECT", "--to-ports", "8443")
            server.run(program, "-t", "nat", "-A", "PREROUTING", *redirect)
        with (
            nginx(server, tmp_path / "nginx", 8443, listen(tmp_path / "tls", 8443)),
            answering(server, capture=variant),
        ):
            for address in (server.ipv4, server.ipv6):
                assert proof(certificate_at(client, address, NAME)) == PROOF
                assert is_served(client, address)


@pytest.mark.parametrize("variant", IPTABLES)
def test_behind_a_load_balancers_header_no_visitor_is_queued(tmp_path: Path, variant: str) -> None:
    listening = listen(tmp_path / "tls", how="ssl http2 proxy_protocol")
    with (
        hosts.pair() as (client, server),
        nginx(server, tmp_path / "nginx", 443, listening) as running,
        answering(server, capture=variant, queue=QUEUE),
    ):
        headers = [header for header in PROXY_HEADERS.values() if len(header) <= LONGEST_FOR_NGINX]
        for header in headers:
            for protocols in (VISITOR, MANY):
                hello = client_hello(NAME, protocols)
                assert first_bytes(client, server.ipv4, header + hello) == SERVER_HELLO
                assert first_bytes(client, server.ipv4, header, hello) == SERVER_HELLO
            assert queued(Lab(client, server, running, tmp_path)) == 0
        for header in headers:
            assert validated_behind(header, client, server.ipv4)


def validated_behind(header: bytes, client: Host, address: str) -> bool:
    connection = client.connect(address, 443)
    connection.sendall(header)
    return proof(shake_hands(connection, NAME)) == PROOF
