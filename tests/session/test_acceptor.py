"""Connections that are accepted where no server is: who is answered, who is refused, and what each may take up."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.engine.protocols import UNDECIDED, Output, Recognition
from certbot_standalone_nfq.session.acceptor import Acceptor, Answering, Limits
from certbot_standalone_nfq.wire.proxy_protocol import without_header
from lab.http import read_all, reset_on_close
from lab.processes import wait_until

pytestmark = pytest.mark.anywhere

REFUSAL = b"not here\n"


class Greeting:
    """A conversation: a line that begins with "hello" is answered, after a second one."""

    seconds = 120.0

    def __init__(self) -> None:
        self._received = b""

    def receive(self, data: bytes, *, ended: bool) -> Output:
        self._received += data
        if self._received.count(b"\n") < 2:
            return Output(b"go on\n" if data.endswith(b"\n") else b"", close=ended)
        return Output(b"welcome\n", close=True)


class Flood:
    """A conversation that says more than any socket's buffer takes."""

    seconds = 120.0

    def receive(self, data: bytes, *, ended: bool) -> Output:
        return Output(bytes(1 << 26), close=True)


def recognise(received: bytes) -> Recognition:
    start = without_header(received)
    if start == b"flood":
        return Flood()
    if start.startswith(b"hello\n"):
        return Greeting()
    return UNDECIDED if b"hello\n".startswith(start) else None


@contextlib.contextmanager
def accepting(limits: Limits | None = None) -> Iterator[tuple[str, int]]:
    """Accept connections on a thread; the address to connect to."""
    acceptor = Acceptor(Answering(recognise, lambda _: REFUSAL), limits)
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor.add(listener)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            acceptor.serve(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        ended.set()
        acceptor.wake()
        thread.join()
        acceptor.close()


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=10)


def exchange(address: tuple[str, int], *pieces: bytes) -> bytes:
    with connect(address) as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def test_a_conversation_goes_on_over_several_pieces() -> None:
    with accepting() as address, connect(address) as client:
        client.sendall(b"hel")
        client.sendall(b"lo\n")
        assert client.recv(6) == b"go on\n"
        client.sendall(b"again\n")
        assert read_all(client) == b"welcome\n"


def test_a_challenge_is_answered_behind_a_proxy_header() -> None:
    with accepting() as address:
        assert exchange(address, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"hello\n\n").endswith(b"welcome\n")


def test_any_other_request_is_refused_and_its_rest_does_not_reset_the_connection() -> None:
    with accepting() as address, connect(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\n\r\n")
        assert client.recv(100) == REFUSAL
        client.sendall(bytes(1000))
        assert read_all(client) == b""


def test_a_client_that_closes_before_it_said_enough_is_refused() -> None:
    with accepting() as address:
        assert exchange(address, b"hel") == REFUSAL
        assert exchange(address) == b""


def test_of_many_clients_the_oldest_make_room() -> None:
    with accepting(Limits(clients=3)) as address, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(address)) for _ in range(5)]
        assert [client.recv(1) for client in idle[:2]] == [b"", b""]
        idle[4].sendall(b"bye")
        assert read_all(idle[4]) == REFUSAL


def test_a_client_has_only_so_much_time() -> None:
    with accepting(Limits(seconds=0.1)) as address, connect(address) as client:
        client.sendall(b"hel")
        assert read_all(client) == b""


def test_a_refused_client_that_does_not_close_is_closed() -> None:
    with accepting(Limits(closing_seconds=0.1)) as address, connect(address) as client:
        client.sendall(b"bye")
        assert read_all(client) == REFUSAL
        with pytest.raises(ConnectionError):
            wait_until(lambda: client.send(b"more") == 0, "the connection is reset")


def test_a_client_may_send_only_so_much() -> None:
    with accepting(Limits(bytes=1000)) as address, connect(address) as client:
        client.sendall(bytes(1001))
        with pytest.raises(ConnectionError):
            wait_until(lambda: client.send(b"more") == 0, "the connection is reset")


def test_a_client_that_does_not_read_what_it_is_sent_is_dropped() -> None:
    with accepting() as address, connect(address) as client:
        client.sendall(b"flood")
        received = read_all(client)
        assert 0 < len(received) < 1 << 26


def test_without_file_descriptors_a_client_waits_until_there_is_one() -> None:
    with accepting() as address, socket.socket() as client:
        with connect(address) as first:
            first.sendall(b"bye")
            assert read_all(first) == REFUSAL
        with no_more_descriptors():
            client.connect(address)
        client.sendall(b"bye")
        assert read_all(client) == REFUSAL


def test_without_file_descriptors_the_oldest_client_makes_room() -> None:
    with accepting() as address, connect(address) as idle, socket.socket() as client:
        idle.sendall(b"hello\n")
        assert idle.recv(6) == b"go on\n"
        with no_more_descriptors():
            client.connect(address)
            assert read_all(idle) == b""
            client.sendall(b"bye")
            assert read_all(client) == REFUSAL


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let this process open no file."""
    with socket.socket() as next_one:
        lowest_free = next_one.fileno()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_a_client_that_resets_the_connection_disturbs_no_other() -> None:
    with accepting() as address, connect(address) as other:
        with connect(address) as client:
            reset_on_close(client)
            client.sendall(b"hel")
        other.sendall(b"bye")
        assert read_all(other) == REFUSAL


def test_waking_ends_the_wait() -> None:
    acceptor = Acceptor(Answering(recognise))
    acceptor.wake()
    begin = time.monotonic()
    acceptor.serve(10)
    assert time.monotonic() - begin < 5
    acceptor.close()
