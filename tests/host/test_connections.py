"""Connections as this machine's kernel shows them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.host import sock_diag
from certbot_standalone_nfq.host.connections import Connections, Ends
from lab.http import reset_on_close


@pytest.fixture
def connections() -> Iterator[Connections]:
    with contextlib.closing(Connections()) as made:
        assert made.known
        yield made


@contextlib.contextmanager
def connected(server: str, client: str) -> Iterator[tuple[socket.socket, socket.socket, Ends]]:
    """Connect a client to a server that listens at another address; yield both ends, and what they are called."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server((server, 0), family=family, dualstack_ipv6=server == "::"))
        theirs = opened.enter_context(socket.create_connection((client, listener.getsockname()[1])))
        ours, _ = listener.accept()
        opened.enter_context(ours)
        peer, local = theirs.getsockname(), theirs.getpeername()
        yield theirs, ours, (peer[0], peer[1], local[0], local[1])


def reset(connection: socket.socket) -> None:
    reset_on_close(connection)
    connection.close()


@pytest.mark.parametrize(
    ("server", "client"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")]
)
def test_a_connection_is_open_until_a_reset(connections: Connections, server: str, client: str) -> None:
    with connected(server, client) as (theirs, _, ends):
        assert connections.is_open(ends)
        assert not connections.has_ended(ends)
        reset(theirs)
        assert not connections.is_open(ends)
        assert connections.has_ended(ends)


def test_a_reset_that_another_program_holds_up_is_waited_for(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected("127.0.0.1", "127.0.0.1") as (theirs, _, ends):
        monkeypatch.setattr("time.sleep", lambda _: reset(theirs))
        assert connections.has_ended(ends)


def test_where_sockets_stay_it_soon_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = 100.0, 0.0

    def wait(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    monkeypatch.setattr("time.sleep", wait)
    monkeypatch.setattr("time.monotonic", lambda: now)
    connections = Connections()
    with connected("127.0.0.1", "127.0.0.1") as (_, _, ends):
        for _ in range(100):
            assert not connections.has_ended(ends)
        assert 0.9 < waited <= 1
        now += 1
        for _ in range(100):
            assert not connections.has_ended(ends)
        assert 1 < waited <= 1.1
    connections.close()


def test_a_connection_is_told_by_all_four_of_its_parts(connections: Connections) -> None:
    with connected("127.0.0.1", "127.0.0.1") as (_, _, (peer, peer_port, local, local_port)):
        for other in (
            ("127.0.0.2", peer_port, local, local_port),
            (peer, peer_port ^ 1, local, local_port),
            (peer, peer_port, "127.0.0.2", local_port),
            (peer, peer_port, local, local_port ^ 1),
        ):
            assert not connections.is_open(other)  # for the second one, there is a listener


@pytest.mark.parametrize("end", [0, 1])
def test_a_connection_that_one_end_has_closed_is_not_open_but_has_not_ended(connections: Connections, end: int) -> None:
    with connected("127.0.0.1", "127.0.0.1") as (theirs, ours, ends):
        (theirs, ours)[end].shutdown(socket.SHUT_WR)
        assert not connections.is_open(ends)
        assert not connections.has_ended(ends)


def test_a_connection_that_is_not_accepted_yet_is_open(connections: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        assert connections.is_open((*theirs.getsockname(), *theirs.getpeername()))


def test_asking_is_cheap(connections: Connections) -> None:
    with connected("127.0.0.1", "127.0.0.1") as (_, _, ends):
        began = time.process_time()
        for _ in range(1000):
            connections.has_ended(ends)
        assert time.process_time() - began < 1.0


@pytest.mark.parametrize("function", ["connect", "listening"])
def test_a_kernel_that_cannot_be_asked_is_not_known(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(sock_diag, function, fail)
    connections = Connections()
    assert not connections.known
    with pytest.raises(OSError, match="Bad file descriptor"):
        connections.is_open(("127.0.0.1", 1, "127.0.0.1", 2))
    connections.close()
