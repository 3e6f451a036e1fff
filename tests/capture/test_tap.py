"""What the tap shows of traffic, on the real kernel."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.capture.tap import Tap
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.diagnosis.attempts import TappedSegment
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.session.observer import Observation
from certbot_standalone_nfq.wire.flags import Flags
from lab import hosts
from lab.hosts import Host
from lab.http import CLOSE, KEPT_PAGE_REQUEST, PAGE_REQUEST, ask, read_response, request
from lab.nginx import nginx
from lab.processes import wait_until

S, SA, F, R, P = Flags.SYN, Flags.SYN | Flags.ACK, Flags.FIN | Flags.ACK, Flags.RST | Flags.ACK, Flags.PSH | Flags.ACK
SELECTORS = Http01Solver.selectors(80)


@pytest.fixture
def served(pair: tuple[Host, Host], tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with nginx(pair[1], tmp_path / "nginx"):
        yield pair


@contextlib.contextmanager
def tapping(host: Host, *, outside: bool = False, replies: bool = False) -> Iterator[list[TappedSegment]]:
    """Collect what the tap shows while the context lasts, and in the moment after, until a connection has ended."""
    seen: list[TappedSegment] = []
    with host.inside():
        opened = Tap(SELECTORS, replies=replies)
    if outside:
        opened.look_outside()

    def receive() -> list[TappedSegment]:
        return [each for each in opened.receive(100) if isinstance(each, TappedSegment)]

    def ended() -> bool:
        seen.extend(receive())
        return any(each.flags & (Flags.FIN | Flags.RST) for each in seen)

    with contextlib.closing(opened):
        yield seen
        wait_until(ended, "a connection has ended")
        seen.extend(receive())


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_of_a_bystander_only_the_ends_of_the_connection_are_seen(served: tuple[Host, Host], family: str) -> None:
    client, server = served
    with tapping(server) as seen, client.connect(getattr(server, family)) as connection:
        for _ in range(5):
            connection.sendall(KEPT_PAGE_REQUEST)
            read_response(connection)
    assert [(each.flags, each.outgoing) for each in seen] == [(S, False), (F, False)]
    assert {each.connection.peer for each in seen} == {getattr(client, family)}
    assert {each.connection.local_port for each in seen} == {80}


def test_what_goes_out_is_seen_if_asked_for(served: tuple[Host, Host]) -> None:
    client, server = served
    with tapping(server, outside=True) as seen, client.connect(server.ipv4) as connection:
        connection.sendall(KEPT_PAGE_REQUEST)
        read_response(connection)
    assert [(each.flags, each.outgoing) for each in seen[:3]] == [(S, False), (SA, True), (F, False)]
    assert [each.time for each in seen] == sorted(each.time for each in seen)


def test_a_challenge_request_is_seen_whatever_the_firewall_does_with_it(served: tuple[Host, Host]) -> None:
    client, server = served
    drop = ("-p", "tcp", "-m", "string", "--algo", "bm", "--string", "acme-challenge", "-j", "DROP")
    server.run("iptables", "-A", "INPUT", *drop)
    with tapping(server, outside=True) as seen:
        with client.connect(server.ipv4) as connection:
            connection.sendall(request())
        ask(client, server.ipv4, PAGE_REQUEST)
    asked = next(each for each in seen if each.payload)
    assert (asked.payload, asked.flags, asked.outgoing) == (request(), P, False)


def test_a_connection_that_is_refused_is_seen_with_the_refusal(pair: tuple[Host, Host]) -> None:
    client, server = pair
    with tapping(server, outside=True) as seen, pytest.raises(ConnectionRefusedError):
        client.connect(server.ipv4)
    assert [(each.flags, each.outgoing) for each in seen] == [(S, False), (R, True)]


def test_responses_are_seen_if_asked_for(served: tuple[Host, Host]) -> None:
    client, server = served
    with tapping(server, replies=True) as seen:
        ask(client, server.ipv4, PAGE_REQUEST)
    assert [each.payload[:15] for each in seen if each.payload] == [b"HTTP/1.1 200 OK"]


def test_what_is_forwarded_is_seen_once_where_it_comes_in(pair: tuple[Host, Host], tmp_path: Path) -> None:
    """The container's port is the same, so its packets pass two interfaces of the server with it."""
    client, server = pair
    with hosts.host("d") as behind:
        hosts.publish(server, behind, 80)
        with nginx(behind, tmp_path / "nginx"), tapping(server, outside=True) as seen:
            ask(client, server.ipv4, request("unknown", headers=CLOSE))
    assert {each.connection.local for each in seen} == {server.ipv4}
    assert [each.flags for each in seen].count(S) == 1
    assert [each.flags for each in seen].count(SA) == 1


def test_other_ports_are_not_seen(served: tuple[Host, Host]) -> None:
    client, server = served
    with tapping(server) as seen:
        with pytest.raises(ConnectionRefusedError):
            client.connect(server.ipv4, 8080)
        ask(client, server.ipv4, PAGE_REQUEST)
    assert {each.connection.local_port for each in seen} == {80}


@pytest.mark.heavy
def test_more_than_can_be_read_is_counted_as_missed_and_holds_up_nobody(served: tuple[Host, Host]) -> None:
    client, server = served
    evidence = Evidence(Http01Solver.challenge_in)
    with server.inside():
        observation = Observation(SELECTORS, evidence, threading.Lock())
        observation.start()
    try:
        client.run("wrk", "-t1", "-c8", "-d1s", "-H", "Connection: close", f"http://{server.ipv4}/")
        wait_until(lambda: observation.missed, "something was missed")
    finally:
        observation.stop()
    assert evidence.arrivals()
