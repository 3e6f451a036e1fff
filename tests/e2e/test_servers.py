"""The real certbot and a real authority, past web servers of all kinds: nothing about them may matter."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from lab import hosts
from lab.certbot import Certbot
from lab.dns import resolving
from lab.hosts import Host
from lab.load import load
from lab.pebble import pebble
from lab.processes import wait_until
from lab.servers import SERVERS
from lab.servers.clients import ask_and_wait, hang_up, keeping
from lab.servers.web_server import WebServer
from tests.e2e.matrix import Row, recorded

FOUR, SIX = "four.example.com", "six.example.com"
CONTROL = "/.well-known/acme-challenge/of-another-client"

CONNECTIONS = 8
NICENESS = 10
"""The load's: what writes a server's log would not keep up with it otherwise."""


@dataclass
class Town:
    """A server that has no web server yet, and who else is there."""

    client: Host
    server: Host
    certbot: Certbot

    @property
    def addresses(self) -> tuple[str, str]:
        """The server's."""
        return self.server.ipv4, self.server.ipv6

    @property
    def places(self) -> tuple[str, str]:
        """The same, as they are written in URLs."""
        return self.server.ipv4, f"[{self.server.ipv6}]"

    def is_loaded(self, place: str) -> bool:
        """Whether the load has its connections to an address; it opens and closes one before these."""
        return len(self.client.run("ss", "-tnH", "state", "established", "dst", place).splitlines()) >= CONNECTIONS

    def state(self, web_server: WebServer) -> tuple[object, ...]:
        """Return what must be the same before and after."""
        queues = self.server.queues()
        return self.server.rules(), queues, web_server.identity()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with (
        hosts.pair() as (client, server),
        resolving(server, client.ipv4),
        pebble(client, folder / "pebble") as authority,
    ):
        authority.resolve(FOUR, ipv4=server.ipv4)
        authority.resolve(SIX, ipv6=server.ipv6)
        yield Town(client, server, Certbot(server, authority, folder / "certbot"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that users other than root, which servers run as, can look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def row(request: pytest.FixtureRequest, kind: str) -> Iterator[Row]:
    """The row of the table that is printed at the end."""
    with recorded(Row(kind), "web servers", request.node) as made:
        yield made


@pytest.fixture
def web_server(town: Town, folder: Path, row: Row) -> Iterator[WebServer]:
    """A running web server, whose log shows what it is asked for, challenges too."""
    town.server.run("conntrack", "-F")  # as elsewhere: Pebble may get a port that the load before had
    with SERVERS[row.server](town.server, folder / "server") as running:
        row.version = running.version
        ask_and_wait(town.client, town.server.ipv4, running, CONTROL)
        assert running.challenges() == 1
        yield running


@pytest.fixture
def certbot(town: Town) -> Iterator[Certbot]:
    yield town.certbot
    shutil.rmtree(town.certbot.folder, ignore_errors=True)


@contextlib.contextmanager
def loaded(town: Town, row: Row) -> Iterator[None]:
    """Ask for pages all the time, over both IP versions."""
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(load(town.client, f"http://{place}/", connections=CONNECTIONS, niceness=NICENESS))
            for place in town.places
        ]
        for place in town.places:
            wait_until(functools.partial(town.is_loaded, place), "the load has its connections")
        yield
    row.requests = sum(each.requests for each in loads)
    row.failures = sum(each.failures for each in loads)


def traces_of_hanging_up(town: Town, web_server: WebServer) -> set[str]:
    """Return what clients leave in the logs that reset their connections where the authority would ask."""
    before = web_server.remarks()
    for address in town.addresses:
        hang_up(town.client, address)
        ask_and_wait(town.client, address, web_server)
    return web_server.traces_since(before)


def compared(traces: set[str], allowed: set[str]) -> str:
    """Return the words for what challenges leave in a log, beside what clients do that reset their connections."""
    if not traces <= allowed:
        return "more than a reset does"
    return "what a reset leaves" if traces else "nothing"


def names(certificate: Path) -> set[str]:
    """Return the names that a certificate is for; none if there is none."""
    if not certificate.exists():
        return set()
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    extension = read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(extension.value.get_values_for_type(x509.DNSName))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_certificate_is_issued_and_the_busy_web_server_does_not_notice(
    town: Town, web_server: WebServer, certbot: Certbot, row: Row
) -> None:
    """What a challenge leaves in a log, if anything, is what a client leaves that connects and resets."""
    before = town.state(web_server)
    with loaded(town, row), keeping(town.client, town.addresses) as kept:
        ask_and_wait(town.client, town.server.ipv4, web_server)
        allowed = traces_of_hanging_up(town, web_server)
        remarks = web_server.remarks()
        result = certbot.certonly(FOUR, SIX)
        ask_and_wait(town.client, town.server.ipv4, web_server)
        traces = web_server.traces_since(remarks)
        row.kept = all(each.works() for each in kept)
    issued = names(certbot.certificate(FOUR))
    row.ipv4, row.ipv6, row.left = FOUR in issued, SIX in issued, compared(traces, allowed)
    row.challenges = web_server.challenges() - 1
    row.unchanged = town.state(web_server) == before
    assert result.returncode == 0, result.stdout
    assert issued == {FOUR, SIX}
    assert row.requests > 100
    assert row.failures == 0
    assert row.challenges == 0
    assert row.kept
    assert town.state(web_server) == before
    assert traces <= allowed
