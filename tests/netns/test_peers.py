"""Peers of other kinds, in other numbers, and over bad cables."""

from __future__ import annotations

import concurrent.futures
import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.capture.nfqueue.allocation import Selection
from certbot_standalone_nfq.engine.endpoint import Endpoint
from lab.hosts import Host
from lab.http import CLOSE, PAGE_REQUEST, ask, body, read_all, read_response, request, reset_on_close
from lab.interceptor import BY_RULES, EBPF, KEY_AUTHORIZATION, KINDS, TOKEN, intercepting
from lab.nginx import PAGE
from lab.processes import wait_until
from lab.shuffler import LOST, damaging_first_data, far, shuffling
from tests.engine.kept import kept_by
from tests.netns.conftest import Lab

FAMILIES = ["ipv4", "ipv6"]
NOT_FOUND = "HTTP/1.1 404 Not Found"
VALIDATIONS = 1000


@pytest.fixture(scope="module")
def active(lab: Lab) -> Iterator[Lab]:
    with intercepting(lab.server):
        yield lab


@pytest.fixture(params=FAMILIES)
def address(active: Lab, request: pytest.FixtureRequest) -> str:
    return str(getattr(active.server, request.param))


@contextlib.contextmanager
def settings(host: Host, **values: object) -> Iterator[None]:
    """Change settings of a host's TCP for a while."""
    names = {name: f"net.ipv4.tcp_{name}" for name in values}
    before = {name: host.run("sysctl", "-n", names[name]).strip() for name in values}
    host.run("sysctl", "-qw", *(f"{names[name]}={value}" for name, value in values.items()))
    try:
        yield
    finally:
        host.run("sysctl", "-qw", *(f"{names[name]}={value}" for name, value in before.items()))


@contextlib.contextmanager
def quiet(host: Host) -> Iterator[None]:
    """Check that nothing went wrong with a TCP connection of the host."""
    before = host.complaints()
    yield
    wait_until(lambda: not host.closing(), "every close is acknowledged")
    assert host.complaints() == before


def ask_with(client: Host, address: str, option: tuple[int, int, int], octets: bytes) -> bytes:
    """Ask from a socket with an option set before it connects: its level, name and value."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with client.inside(), socket.socket(family) as connection:
        connection.settimeout(15)
        connection.setsockopt(*option)
        connection.connect((address, 80))
        connection.sendall(octets)
        return read_all(connection)


@pytest.mark.firewall
@pytest.mark.parametrize("size", [88, 216, 536])
def test_peers_that_take_small_segments_only(active: Lab, address: str, size: int) -> None:
    """The request comes in several of them."""
    octets = request(headers=CLOSE + "X-Long: " + "x" * 500 + "\r\n")
    option = (socket.IPPROTO_TCP, socket.TCP_MAXSEG, size)
    assert body(ask_with(active.client, address, option, octets)) == KEY_AUTHORIZATION


def test_peers_that_notify_of_congestion(active: Lab, address: str) -> None:
    with settings(active.client, ecn=1), settings(active.server, ecn=1), quiet(active.client):
        assert body(ask(active.client, address)) == KEY_AUTHORIZATION


@pytest.mark.parametrize("receive_buffer", [1, 4096])
def test_peers_with_small_windows(active: Lab, address: str, receive_buffer: int) -> None:
    option = (socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    assert body(ask_with(active.client, address, option, request())) == KEY_AUTHORIZATION


@pytest.mark.anywhere
@pytest.mark.parametrize("version", ["HTTP/1.0\r\n\r\n", "HTTP/1.0\nHost: x\n\n", "HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"])
def test_other_ways_to_write_a_request(active: Lab, address: str, version: str) -> None:
    octets = f"GET /.well-known/acme-challenge/{TOKEN} {version}".encode()
    assert body(ask(active.client, address, octets)) == KEY_AUTHORIZATION


@pytest.mark.firewall
def test_a_request_with_pauses_between_its_pieces(active: Lab, address: str) -> None:
    """Each piece is acknowledged before the next is sent."""
    with active.client.connect(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        octets = request()
        port = connection.getsockname()[1]
        for start, end in ((0, 2), (2, 20), (20, 40), (40, 60), (60, len(octets))):
            connection.sendall(octets[start:end])
            wait_until(lambda: nothing_unacknowledged(active.client, port), "the piece is acknowledged")
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def test_the_answer_to_pieces_is_not_older_than_the_servers_acknowledgment_of_them(active: Lab, address: str) -> None:
    """All pieces are sent before the first is acknowledged. A client discards what its clock shows to be old."""
    with far(active.client), quiet(active.client), active.client.connect(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request()[:40])
        connection.sendall(request()[40:])
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def nothing_unacknowledged(host: Host, port: int) -> bool:
    """Whether a connection's send queue is empty."""
    columns = host.run("ss", "-tnH", f"sport = :{port}").split()
    return not columns or columns[2] == "0"


def test_a_small_writer_that_waits_for_acknowledgments(active: Lab, address: str) -> None:
    """Nagle's algorithm: the second piece is kept back until the first is acknowledged."""
    with active.client.connect(address) as connection:
        for octet in request():
            connection.sendall(bytes([octet]))
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def test_data_on_the_syn_is_the_servers(lab: Lab) -> None:
    with (
        settings(lab.client, fastopen=1),
        settings(lab.server, fastopen=3),
        lab.server.inside(),
        socket.create_server(("", 8090), backlog=16) as listener,
        intercepting(lab.server, port=8090),
    ):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        for _ in range(2):  # the first time gets the cookie, the second uses it
            with lab.client.inside():
                connection = socket.socket()
            connection.sendto(request(), 0x20000000, (lab.server.ipv4, 8090))  # MSG_FASTOPEN
            if int(lab.client.counter("TcpExtTCPFastOpenActive")):
                accepted, _ = listener.accept()
                accepted.settimeout(10)
                assert accepted.recv(1000) == request()
                accepted.close()
            connection.close()
        assert lab.client.counter("TcpExtTCPFastOpenActive") == 1


def test_a_hundred_names_fifty_at_a_time_from_five_perspectives(lab: Lab) -> None:
    answers = {f"token-number-{number:03d}_{'x' * 26}": f"answer {number}" for number in range(100)}
    with intercepting(lab.server, answers) as (_, answered):
        with concurrent.futures.ThreadPoolExecutor(50) as validators:
            asked = [token for token in answers for _ in range(5)]
            addresses = [getattr(lab.server, FAMILIES[number % 2]) for number in range(len(asked))]
            got = validators.map(lambda each: body(ask(lab.client, each[0], request(each[1]))), zip(addresses, asked))
            assert list(got) == [answers[token] for token in asked]
        wait_until(lambda: len(answered) == 500, "every answer is told")


@pytest.mark.anywhere
def test_a_kept_connection_is_closed_so_that_the_next_challenge_comes_on_another(active: Lab, address: str) -> None:
    for _ in range(3):
        with active.client.connect(address) as connection:
            connection.sendall(request(headers="Host: x\r\nConnection: keep-alive\r\n"))
            answer = read_response(connection)
            assert b"Connection: close" in answer
            assert body(answer) == KEY_AUTHORIZATION
            assert connection.recv(1) == b""


def get_answer(lab: Lab) -> str:
    """Ask from the same port as always, close by a reset, and return the answer."""
    with lab.client.connect(lab.server.ipv4, source=lab.client.ipv4, source_port=40_000) as connection:
        connection.sendall(request())
        reset_on_close(connection)
        return body(read_all(connection))


@pytest.mark.firewall
@pytest.mark.parametrize("kind", [*KINDS, *EBPF])
def test_a_later_connection_from_the_same_port_is_answered_though_the_end_of_the_one_before_was_lost(
    fresh_lab: Lab, kind: str
) -> None:
    """Also after the kernel has forgotten the one before, which by rules it does in ten seconds, and we do in 120.

    A reset that closes has an ACK. One that refuses what we say of the connection before has none, and is not lost.
    """
    closes = ("-p", "tcp", "--tcp-flags", "RST,ACK", "RST,ACK", "-j", "DROP")
    fresh_lab.client.run("iptables", "-A", "OUTPUT", *closes)
    with intercepting(fresh_lab.server, capture=kind):
        for forgets in (False, False, True, True):
            assert get_answer(fresh_lab) == KEY_AUTHORIZATION
            if forgets:
                fresh_lab.server.run("conntrack", "-F")


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_arrives_damaged_is_not_answered_until_it_comes_again(
    fresh_lab: Lab, kind: str, selection: Selection
) -> None:
    client, server = fresh_lab.client, fresh_lab.server
    with intercepting(server, capture=kind, selection=selection.value), damaging_first_data(client):
        for address in (server.ipv4, server.ipv6):
            assert body(ask(client, address)) == KEY_AUTHORIZATION
    assert server.counter("TcpInCsumErrors") == 2
    assert "acme-challenge" not in fresh_lab.nginx.access_log


def spoil(client: Host, server: Host, loss: float) -> None:
    """Lose packets both ways, at the client as programs at the server come before its firewall; double one of ten."""
    chance = ("-m", "statistic", "--mode", "random", "--probability")
    for table, hook in (("raw", "PREROUTING"), ("mangle", "POSTROUTING")):
        for program in ("iptables", "ip6tables"):
            client.run(program, "-t", table, "-A", hook, "-p", "tcp", *chance, str(loss), *LOST)
    for host, other in ((client, server), (server, client)):
        for program, gateway in (("iptables", other.ipv4), ("ip6tables", other.ipv6)):
            double = ("POSTROUTING", "-p", "tcp", *chance, "0.1", "-j", "TEE", "--gateway", gateway)
            host.run(program, "-t", "mangle", "-A", *double)


def validate(lab: Lab, family: str) -> str:
    """Ask once, trying nothing again; return the answer, or what went wrong."""
    try:
        with lab.client.connect(getattr(lab.server, family), timeout=150) as connection:
            connection.sendall(request())
            return body(read_all(connection))
    except OSError as error:
        return repr(error)


@pytest.mark.heavy
def test_a_thousand_validations_in_a_row_through_loss_reordering_and_doubling_and_nothing_grows(fresh_lab: Lab) -> None:
    client, server = fresh_lab.client, fresh_lab.server
    spoil(client, server, loss=0.15)
    families = FAMILIES * (VALIDATIONS // 4)
    with (
        shuffling(client, seed=1),
        intercepting(server) as (interception, _),
        concurrent.futures.ThreadPoolExecutor(50) as validators,
    ):
        rules, descriptors = server.rules(), len(list(Path("/proc/self/fd").iterdir()))
        assert set(validators.map(lambda family: validate(fresh_lab, family), families)) == {KEY_AUTHORIZATION}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert set(validators.map(lambda family: validate(fresh_lab, family), families)) == {KEY_AUTHORIZATION}
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        assert grown < 8192, f"{grown} KiB"
        assert len(kept_by(interception, Endpoint)) <= VALIDATIONS
        # Programs that look after the rules may be running at this moment, and have some of their own.
        wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) == descriptors, "no descriptor is left open")
        assert server.rules() == rules
    assert "acme-challenge" not in fresh_lab.nginx.access_log
    assert client.counter("TcpInCsumErrors") == 0


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [BY_RULES, *EBPF])
def test_nearly_every_validation_succeeds_where_almost_a_third_is_lost(fresh_lab: Lab, kind: str) -> None:
    spoil(fresh_lab.client, fresh_lab.server, loss=0.3)
    with intercepting(fresh_lab.server, capture=kind), concurrent.futures.ThreadPoolExecutor(50) as validators:
        answers = list(validators.map(lambda family: validate(fresh_lab, family), FAMILIES * 100))
    assert answers.count(KEY_AUTHORIZATION) >= 0.98 * len(answers)


def test_bystanders_over_a_bad_cable_are_served_as_ever(fresh_lab: Lab) -> None:
    spoil(fresh_lab.client, fresh_lab.server, loss=0.15)
    with intercepting(fresh_lab.server):
        for octets, expected in ((PAGE_REQUEST, PAGE), (request("unknown", headers=CLOSE), NOT_FOUND)) * 5:
            with fresh_lab.client.connect(fresh_lab.server.ipv4, timeout=120) as connection:
                connection.sendall(octets)
                assert body(read_all(connection)) == expected
