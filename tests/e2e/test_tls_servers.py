"""The real certbot and a real authority, by TLS-ALPN-01 past servers of many kinds on port 443."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from lab.certbot import Certbot
from lab.hosts import Host
from lab.http import reset_on_close
from lab.interceptor import KEY_AUTHORIZATION, intercepting
from lab.load import Load, load
from lab.servers.mail import greeted
from lab.servers.tls import TLS_SERVERS
from lab.servers.web_server import WebServer
from lab.tls import VISITOR, certificate_at, proof
from tests.e2e.matrix import TlsRow, recorded
from tests.e2e.test_servers import FOUR, SIX, Town, compared, folder, names, town  # noqa: F401 - fixtures
from tests.e2e.test_tls_alpn_01 import BY_TLS

HANG_UPS = 60


@pytest.fixture
def row(request: pytest.FixtureRequest, kind: str) -> Iterator[TlsRow]:
    with recorded(TlsRow(kind), "TLS servers", request.node) as made:
        yield made


@pytest.fixture
def server(town: Town, folder: Path, row: TlsRow) -> Iterator[WebServer]:  # noqa: F811
    town.server.run("conntrack", "-F")
    with TLS_SERVERS[row.server](town.server, folder / "server") as running:
        row.version = running.version
        yield running


@pytest.fixture
def certbot(town: Town) -> Iterator[Certbot]:  # noqa: F811
    yield town.certbot
    shutil.rmtree(town.certbot.folder, ignore_errors=True)


def kinds_of_lines(server: WebServer) -> set[str]:
    """Return the lines of a server's log that are no requests, without what differs between clients."""
    lines = server.errors.read_text(errors="replace").splitlines() if server.errors.exists() else []
    return {re.sub(r"[0-9a-f:.]*\d[0-9a-f:.]*", "N", line) for line in lines if "GET " not in line}


def loaded(town: Town, kind: str) -> list[AbstractContextManager[Load]]:  # noqa: F811
    """Return a load for each of the server's addresses, of clients that speak its protocol."""
    if kind == "Postfix":
        return [greeted(town.client, each) for each in town.addresses]
    return [load(town.client, f"https://{each}/", niceness=10, handshakes=True) for each in town.places]


def hang_up(client: Host, address: str) -> None:
    """Connect, and close or reset the connection, before the server accepts it and after."""
    for number in range(HANG_UPS):
        connection = client.connect(address, 443)
        if number & 1:
            certificate_at(client, address, "example.com", VISITOR[1:])
        if number & 2:
            reset_on_close(connection)
        connection.close()


def left_behind(town: Town, server: WebServer) -> set[str]:  # noqa: F811
    """Return what challenges leave in a server's log that clients who hang up do not."""
    for address in town.addresses:
        hang_up(town.client, address)
    allowed = kinds_of_lines(server)
    with intercepting(town.server, {FOUR: KEY_AUTHORIZATION}, 443, TlsAlpn01Solver):
        for address in town.addresses * 5:
            assert proof(certificate_at(town.client, address, FOUR))
    return kinds_of_lines(server) - allowed


@pytest.mark.parametrize("kind", TLS_SERVERS)
def test_a_certificate_is_issued_past_a_busy_server(
    town: Town,  # noqa: F811
    server: WebServer,
    certbot: Certbot,
    row: TlsRow,
) -> None:
    before = town.state(server)
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(each) for each in loaded(town, row.server)]
        result = certbot.certonly(FOUR, SIX, options=BY_TLS)
        row.served = all(not proof(certificate_at(town.client, each, FOUR, VISITOR[1:])) for each in town.addresses)
    issued = names(certbot.certificate(FOUR))
    row.requests, row.failures = sum(each.requests for each in loads), sum(each.failures for each in loads)
    left = left_behind(town, server)
    row.ipv4, row.ipv6, row.left = FOUR in issued, SIX in issued, compared(left, set())
    row.unchanged = town.state(server) == before
    assert result.returncode == 0, result.stdout
    assert issued == {FOUR, SIX}
    assert row.requests > 100
    assert row.failures == 0
    assert row.served
    assert left == set()
    assert town.state(server) == before
