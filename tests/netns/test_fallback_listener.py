"""Connections where no web server accepts any: at which addresses Certbot does, and how it gives way to servers."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from certbot.errors import SignalExit

import certbot_standalone_nfq.authenticator  # noqa: F401 - says what a SignalExit is
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.recognition import recognise
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.host.sockets import Listener, Lookout
from certbot_standalone_nfq.session import listener
from certbot_standalone_nfq.session.acceptor import Acceptor, Answering
from certbot_standalone_nfq.session.listener import FallbackListener
from lab import hosts
from lab.hosts import Host
from lab.http import PAGE_REQUEST, ask, body, read_all, request
from lab.interceptor import KEY_AUTHORIZATION, TOKEN, intercepting
from lab.processes import wait_until

OTHER4, OTHER6 = "198.51.100.3", "2001:db8:100::3"


REFUSED = "HTTP/1.1 404 Not Found"


@contextlib.contextmanager
def standing_in(host: Host, address: str = "") -> Iterator[FallbackListener]:
    solver = Http01Solver()
    solver.add(TOKEN, KEY_AUTHORIZATION)
    answering = Answering(lambda received: recognise([solver], received), lambda _: solver.refusal)
    with host.inside():
        fallback_listener = FallbackListener(80, address, take_snapshot(), answering)
        try:
            fallback_listener.start()
            yield fallback_listener
        finally:
            fallback_listener.stop()


@contextlib.contextmanager
def listening(host: Host, address: str, *, only: bool = True, shared: bool = False) -> Iterator[socket.socket]:
    """Listen to port 80 of an address; on IPv6 alone or on both families, able to share the port or not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.inside(), socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.bind((address, 80))
        listener.listen()
        yield listener


def places(host: Host) -> set[str]:
    """Return the addresses at which port 80 is listened to, as ss prints them."""
    return {line.split()[3] for line in host.run("ss", "-ltnH", "sport = :80").splitlines()}


@pytest.fixture
def server(pair: tuple[Host, Host]) -> Host:
    """A server that has two addresses of each family."""
    pair[1].run("ip", "address", "add", f"{OTHER4}/24", "dev", "eth0")
    pair[1].run("ip", "address", "add", f"{OTHER6}/64", "dev", "eth0", "nodad")
    return pair[1]


def test_where_nobody_listens_it_does_on_both_families_until_it_is_stopped(server: Host) -> None:
    with standing_in(server) as fallback_listener:
        assert places(server) == {"0.0.0.0:80", "[::]:80"}
        fallback_listener.stop()
        assert places(server) == set()


def test_a_challenge_is_answered_where_no_web_server_is_and_others_get_an_answer_too(pair: tuple[Host, Host]) -> None:
    client, server = pair
    before = client.complaints()
    with intercepting(server) as (_, answered), standing_in(server):
        for address in (server.ipv4, server.ipv6):
            assert body(ask(client, address)) == KEY_AUTHORIZATION
            assert body(ask(client, address, PAGE_REQUEST)) == REFUSED
    assert len(answered) == 2
    assert client.complaints() == before


def test_a_challenge_request_that_gets_to_it_is_answered_there(pair: tuple[Host, Host]) -> None:
    client, server = pair
    before = client.complaints()
    with standing_in(server):
        for address in (server.ipv4, server.ipv6):
            assert body(ask(client, address)) == KEY_AUTHORIZATION
            assert body(ask(client, address, request("other"))) == REFUSED
    assert client.complaints() == before


def test_clients_that_say_nothing_hold_nobody_up(pair: tuple[Host, Host]) -> None:
    client, server = pair
    with contextlib.ExitStack() as stack:
        stack.enter_context(standing_in(server))
        for _ in range(200):
            stack.enter_context(client.connect(server.ipv4))
        assert body(ask(client, server.ipv4, PAGE_REQUEST)) == REFUSED


@pytest.mark.parametrize(
    ("taken", "only", "expected"),
    [
        ("0.0.0.0", True, {"0.0.0.0:80", "[::]:80"}),
        ("::", True, {"0.0.0.0:80", "[::]:80"}),
        ("::", False, {"*:80"}),
        ("198.51.100.2", True, {"198.51.100.2:80", f"{OTHER4}:80", "[::]:80"}),
        ("2001:db8:100::2", True, {"[2001:db8:100::2]:80", f"[{OTHER6}]:80", "0.0.0.0:80"}),
        ("127.0.0.1", True, {"127.0.0.1:80", "198.51.100.2:80", f"{OTHER4}:80", "[::]:80"}),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_what_a_server_has_is_left_to_it_by_address_and_by_family(
    server: Host, taken: str, only: bool, expected: set[str], shared: bool
) -> None:
    with listening(server, taken, only=only, shared=shared) as listener, standing_in(server):
        assert places(server) == expected
        assert len(server.run("ss", "-ltnH", "sport = :80").splitlines()) == len(expected)
        assert listener.getsockname()[0] == taken


@pytest.mark.parametrize("address", ["198.51.100.2", "2001:db8:100::3"])
def test_an_address_that_the_user_chose_is_the_only_one(server: Host, address: str) -> None:
    with standing_in(server, address):
        assert places(server) == {f"[{address}]:80" if ":" in address else f"{address}:80"}


def test_a_published_port_is_not_taken_for_nobodys(pair: tuple[Host, Host]) -> None:
    with hosts.host("d") as behind:
        hosts.publish(pair[1], behind, 8080)
        with standing_in(pair[1]):
            assert places(pair[1]) == set()


@pytest.mark.parametrize(
    ("address", "only", "left"),
    [
        ("0.0.0.0", True, {"0.0.0.0:80", "[::]:80"}),
        ("::", True, {"0.0.0.0:80", "[::]:80"}),
        ("::", False, {"*:80"}),
    ],
)
def test_a_server_that_begins_meanwhile_and_can_share_the_port_gets_it(
    pair: tuple[Host, Host], caplog: pytest.LogCaptureFixture, address: str, only: bool, left: set[str]
) -> None:
    client, server = pair
    caplog.set_level(logging.INFO)
    with standing_in(server), listening(server, address, only=only, shared=True) as listener:
        wait_until(lambda: len(server.run("ss", "-ltnH", "sport = :80").splitlines()) == len(left), "it gives way")
        assert places(server) == left
        wait_until(lambda: "Another server now listens on" in caplog.text, "the log says so")
        with client.connect(server.ipv6 if ":" in address else server.ipv4) as connection:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"mine")
            assert read_all(connection) == b"mine"


@pytest.mark.parametrize("taken", ["0.0.0.0", "::"])
def test_a_server_that_has_one_family_does_not_stir_the_socket_of_the_other(
    server: Host, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    looks: list[list[Listener]] = []

    class Counting(Lookout):
        def look(self) -> list[Listener]:
            looks.append(super().look())
            return looks[-1]

    monkeypatch.setattr(listener, "Lookout", Counting)
    with listening(server, taken), standing_in(server):
        wait_until(lambda: len(looks) > 4, "it has looked again")
        # The first look was before it listened; from then on, all show the same sockets.
        assert len({tuple(each) for each in looks[1:]}) == 1
        assert len(looks[1]) == 2


def test_a_signal_while_it_begins_ends_it(server: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_version: int) -> list[str]:
        raise SignalExit

    monkeypatch.setattr(listener, "own_addresses", interrupted)
    with listening(server, OTHER6), pytest.raises(SignalExit), standing_in(server):
        pass
    assert places(server) == set()


def test_what_cannot_be_listened_to_is_told_with_a_cure(server: Host) -> None:
    script = (
        "import logging; from certbot_standalone_nfq.session.acceptor import Answering; "
        "from certbot_standalone_nfq.host.firewall.reader import Snapshot; "
        "from certbot_standalone_nfq.session.listener import FallbackListener; "
        "listener = FallbackListener(80, '', Snapshot(), Answering(lambda received: None)); "
        "listener.start(); listener.stop()"
    )
    command = server.command("setpriv", "--bounding-set=-net_bind_service", sys.executable, "-c", script)
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    told = result.stderr.splitlines()
    assert told[0] == (
        "Nothing listens on port 80 of 0.0.0.0, and Certbot cannot do so itself: Permission denied. "
        "Start a web server there, or run Certbot as root, with CAP_NET_BIND_SERVICE in a container."
    )


def test_if_it_fails_nothing_is_listened_to_any_more_and_the_log_says_so(
    server: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    with standing_in(server):
        monkeypatch.setattr(Acceptor, "serve", fail)
        wait_until(lambda: places(server) == set(), "it has closed its sockets")
    assert "Certbot no longer accepts connections to port 80: no such luck" in caplog.text


def test_where_listeners_cannot_be_looked_for_it_does_not_listen_and_says_so(
    server: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Lookout, "look", fail)
    with standing_in(server):
        assert places(server) == set()
    assert "Cannot determine whether a web server listens on port 80: [Errno 13] Permission denied" in caplog.text
