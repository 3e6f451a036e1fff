"""What a stranger can do who knows a pending token and sends whatever he likes under any address."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certbot_standalone_nfq.engine.engine import MAX_WATCHED
from certbot_standalone_nfq.session.injector import Injector
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment
from lab import hosts
from lab.capture import capture
from lab.hosts import Host
from lab.http import KEPT_PAGE_REQUEST, ask, body, read_all, read_response, request
from lab.interceptor import EBPF, KEY_AUTHORIZATION, KINDS, VARIANTS, intercepting
from lab.nginx import PAGE, nginx
from lab.processes import as_many_descriptors_as_allowed, wait_until
from tests.netns.conftest import Lab

PSH_ACK = Flags.PSH | Flags.ACK
VISITORS, GUESSES = 8, 5
PORTS = range(20_000, 20_040)
"""To forge packets from. No connection of the client's kernel has been there: it chooses from 32768 on."""
WAYS = [
    *((variant, "prefilter") for variant in (*VARIANTS, *EBPF)),
    *((kind, "port") for kind in KINDS),
    *((kind, "stateless-port") for kind in KINDS),
]
FAMILIES = ["ipv4", "ipv6"]


@dataclass
class Stranger:
    """Sends segments as if they were another client's."""

    host: Host
    target: str
    injector: Injector
    numbers: random.Random

    def send(self, source: str, port: int, payload: bytes = b"", flags: Flags = PSH_ACK, **numbers: int) -> None:
        seq, ack = (numbers.get(name, self.numbers.getrandbits(32)) for name in ("seq", "ack"))
        self.injector.send(Segment(source, port, self.target, 80, seq, ack, flags, 502, payload))


@contextlib.contextmanager
def stranger(host: Host, target: str) -> Iterator[Stranger]:
    with contextlib.ExitStack() as opened:
        with host.inside():
            injector = opened.enter_context(contextlib.closing(Injector()))
        yield Stranger(host, target, injector, random.Random(17))


def fetch(connection: socket.socket) -> None:
    connection.sendall(KEPT_PAGE_REQUEST)
    assert body(read_response(connection)) == PAGE


def visit_despite_guesses(lab: Lab, family: str, visitors: list[socket.socket]) -> None:
    """Let a stranger guess numbers on open connections, and see that they stay open."""
    address = getattr(lab.server, family)
    with stranger(lab.client, address) as guessing:
        for visitor in visitors:
            source, port = visitor.getsockname()[:2]
            for _ in range(GUESSES):
                guessing.send(source, port, request())
    for visitor in visitors:
        fetch(visitor)


@pytest.mark.parametrize(("variant", "selection"), WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_visitor_is_not_cut_off_by_guesses(fresh_lab: Lab, variant: str, selection: str, family: str) -> None:
    address = getattr(fresh_lab.server, family)
    older = [fresh_lab.client.connect(address, timeout=5) for _ in range(VISITORS)]
    for visitor in older:
        fetch(visitor)
    with intercepting(fresh_lab.server, capture=variant, selection=selection) as (_, answered):
        newer = [fresh_lab.client.connect(address, timeout=5) for _ in range(VISITORS)]
        visit_despite_guesses(fresh_lab, family, [*older, *newer])
        assert not answered
        for visitor in (*older, *newer):
            visitor.close()
        assert body(ask(fresh_lab.client, address)) == KEY_AUTHORIZATION
        wait_until(lambda: len(answered) == 1, "the one answer is told")


@pytest.mark.parametrize(("variant", "selection"), WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forged_source_is_sent_nothing_but_resets(
    fresh_lab: Lab, tmp_path: Path, variant: str, selection: str, family: str
) -> None:
    address, source = (str(getattr(host, family)) for host in (fresh_lab.server, fresh_lab.client))
    with (
        intercepting(fresh_lab.server, capture=variant, selection=selection) as (_, answered),
        capture(fresh_lab.client, tmp_path / "client.pcap", "tcp src port 80") as captured,
        stranger(fresh_lab.client, address) as forging,
    ):
        for port in PORTS:
            forging.send(source, port, request())
        assert body(ask(fresh_lab.client, address)) == KEY_AUTHORIZATION
        wait_until(lambda: len(answered) == 1, "the one answer is told")
    forged = [each["TCP"] for each in captured.segments() if each["TCP"].dport in PORTS]
    assert all(int(segment.flags) & Flags.RST for segment in forged)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A client, a host with the plugin, and nginx behind it, which the host sends port 80 to."""
    folder = tmp_path_factory.mktemp("published")
    with hosts.pair() as (client, server), hosts.host("d") as behind:
        hosts.publish(server, behind, 8080)
        with nginx(behind, folder / "nginx", port=8080) as running:
            yield Lab(client, server, running, folder)


FORWARDED = [*((variant, "prefilter") for variant in (*VARIANTS, *EBPF)), *((kind, "port") for kind in KINDS)]


@pytest.mark.parametrize(("variant", "selection"), FORWARDED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_visitor_of_a_published_port_is_not_cut_off_by_guesses(
    published: Lab, variant: str, selection: str, family: str
) -> None:
    address = getattr(published.server, family)
    with intercepting(published.server, capture=variant, selection=selection):
        visitors = [published.client.connect(address, timeout=5) for _ in range(VISITORS)]
        visit_despite_guesses(published, family, visitors)
        for visitor in visitors:
            visitor.close()
        assert body(ask(published.client, address)) == KEY_AUTHORIZATION


@pytest.mark.parametrize(("variant", "selection"), FORWARDED)
def test_a_forged_source_gets_no_answer_from_a_published_port(published: Lab, variant: str, selection: str) -> None:
    """Neither without a connection, nor behind a SYN whose answer the stranger has not seen."""
    source = published.client.ipv4
    drop = ("OUTPUT", "-p", "tcp", "--dport", "80", "--tcp-flags", "RST", "RST", "-j", "DROP")
    published.client.run("iptables", "-A", *drop)  # the forged source is a host that is silent
    try:
        with (
            intercepting(published.server, capture=variant, selection=selection) as (_, answered),
            stranger(published.client, published.server.ipv4) as forging,
        ):
            for port in PORTS[:20]:
                forging.send(source, port, request())
                forging.send(source, port, request())
            for port in PORTS[20:]:
                forging.send(source, port, flags=Flags.SYN, seq=1000, ack=0)
            for port in PORTS[20:]:
                for _ in range(3):
                    forging.send(source, port, request(), seq=1001)
            assert body(ask(published.client, published.server.ipv4)) == KEY_AUTHORIZATION
            wait_until(lambda: len(answered) == 1, "the one answer is told")
    finally:
        published.client.run("iptables", "-D", *drop)


def test_half_requests_by_the_thousand_do_not_keep_a_validators_pieces_from_being_answered(lab: Lab) -> None:
    with (
        as_many_descriptors_as_allowed(),
        lab.server.inside(),
        socket.create_server(("::", 8090), family=socket.AF_INET6, backlog=4096, dualstack_ipv6=True),
        intercepting(lab.server, port=8090),
        contextlib.ExitStack() as opened,
    ):
        validator = opened.enter_context(lab.client.connect(lab.server.ipv6, 8090))
        validator.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        validator.sendall(request()[:40])
        for _ in range(MAX_WATCHED + 50):
            half = opened.enter_context(lab.client.connect(lab.server.ipv4, 8090))
            half.sendall(request()[:40])
        validator.sendall(request()[40:])
        assert body(read_all(validator)) == KEY_AUTHORIZATION
