"""A server with nginx and certbot, and the rest of the internet: Pebble, its DNS, and other clients."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import hosts
from lab.certbot import Certbot
from lab.hosts import Host
from lab.load import load
from lab.nginx import Nginx, nginx
from lab.pebble import Pebble, pebble


@dataclass
class Internet:
    """Who is there."""

    client: Host
    server: Host
    nginx: Nginx
    authority: Pebble
    certbot: Certbot


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    folder = tmp_path_factory.mktemp("internet")
    with (
        hosts.pair() as (client, server),
        nginx(server, folder / "nginx") as web_server,
        pebble(client, folder / "pebble") as authority,
    ):
        hosts.track_connections(server)  # so there are rules to look at
        authority.resolve("four.example.com", ipv4=server.ipv4)
        authority.resolve("six.example.com", ipv6=server.ipv6)
        authority.resolve("both.example.com", ipv4=server.ipv4, ipv6=server.ipv6)
        authority.resolve("elsewhere.example.com", ipv4=client.ipv4)
        yield Internet(client, server, web_server, authority, Certbot(server, authority, folder / "certbot"))


@pytest.fixture
def certbot(everybody: Internet) -> Iterator[Certbot]:
    """Certbot with nothing stored yet."""
    yield everybody.certbot
    shutil.rmtree(everybody.certbot.folder, ignore_errors=True)


@pytest.fixture
def undisturbed(everybody: Internet) -> Iterator[Internet]:
    """The same, with a load on nginx; at the end it is checked that nothing has changed and nobody has noticed."""
    server, web_server = everybody.server, everybody.nginx
    # Pebble has the load's address here. The port of a connection that conntrack still has, as a load of an earlier
    # test left it when the rules went, would make it call Pebble's packets invalid.
    server.run("conntrack", "-F")
    before = server.rules(), web_server.identity(), web_server.error_log
    urls = [f"http://{server.ipv4}/", f"http://[{server.ipv6}]/"]
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(load(everybody.client, url)) for url in urls]
        yield everybody
    for each in loads:
        assert each.requests > 100
        assert each.failures == 0
    assert (server.rules(), web_server.identity(), web_server.error_log) == before
    assert "acme-challenge" not in web_server.access_log
    assert not server.queues()
