"""Failures of tls-alpn-01 that are really produced, with real certbot and Pebble; see test_diagnosis.py."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from certbot_standalone_nfq.diagnosis.cause import Cause
from lab import hosts
from lab.certbot import Certbot
from lab.dns import resolving
from lab.hosts import Host
from lab.nginx import nginx
from lab.pebble import pebble
from lab.tls import ACME, listen, write_certificate
from tests.e2e.test_diagnosis import (
    TELLTALES,
    Scenario,
    World,
    client,
    hint_of,
    nobody,
    rules,
    server,
    stateless_redirection,
)
from tests.e2e.test_tls_alpn_01 import BY_TLS

TELLS = {
    **TELLTALES,
    Cause.UNFINISHED: "did not come to its end",
    Cause.TLS_TERMINATED: "does not speak tls-alpn-01's protocol",
    Cause.NOT_TLS: "speaks HTTP without TLS",
    Cause.ANOTHER_ANSWERED: "another TLS server answered",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with (
        hosts.pair() as (client, server),
        resolving(server, client.ipv4),
        nginx(server, folder / "nginx", 443, listen(folder / "tls", 443, 8443)) as web_server,
        pebble(client, folder / "pebble") as authority,
    ):
        made = World(client, server, web_server, authority, Certbot(server, authority, folder / "certbot"))
        for address in (f"{made.other4}/24", f"{made.other6}/64"):
            client.run("ip", "address", "add", address, "dev", "eth0")
        yield made


@contextlib.contextmanager
def tls_server(host: Host, address: str, folder: Path, protocols: tuple[str, ...] = ()) -> Iterator[None]:
    """Let something on a host shake hands with everybody on one of its addresses, with a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_certificate(folder, "in front", x509.DNSName("front.example")))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with host.inside():
        listener = socket.create_server((address, 443))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)

    thread = threading.Thread(target=serve, name="in front")
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def in_front(*protocols: str) -> Callable[[World], contextlib.AbstractContextManager[object]]:
    """Return what has a TLS server in front of this machine answer, at this machine's address."""

    @contextlib.contextmanager
    def trouble(world: World) -> Iterator[None]:
        folder = world.nginx.folder / secrets.token_hex(4)
        folder.mkdir()
        divert = ("-p", "tcp", "-d", world.server.ipv4, "--dport", "443", "-j", "DNAT", "--to-destination")
        with tls_server(world.client, world.other4, folder, protocols):
            world.client.run("iptables", "-t", "nat", "-A", "OUTPUT", *divert, world.other4)
            try:
                yield
            finally:
                world.client.run("iptables", "-t", "nat", "-D", "OUTPUT", *divert, world.other4)

    return trouble


SCENARIOS = {
    "a CDN in front ends TLS": Scenario(
        in_front(), Cause.TLS_TERMINATED, says=("does not speak tls-alpn-01's protocol: a CDN or proxy",)
    ),
    "another ACME client in front answers": Scenario(
        in_front(*ACME), Cause.ANOTHER_ANSWERED, says=("or another ACME client",)
    ),
    "the name leads elsewhere": Scenario(
        nobody, Cause.NOT_THIS_MACHINE, lambda world: (world.other4,), says=("198.51.100.4",)
    ),
    "nothing arrives, as something on the way drops it": Scenario(
        rules(client, "filter OUTPUT -p tcp --dport 443 -j DROP"),
        Cause.NOTHING,
        says=("no connection attempt arrived at TCP port 443",),
    ),
    "a firewall here drops connections": Scenario(
        rules(server, "filter INPUT -p tcp --dport 443 -j DROP"),
        Cause.DROPPED,
        says=("Allow incoming connections to TCP port 443",),
    ),
    "the way back loses what is long": Scenario(
        rules(client, "filter INPUT -p tcp --sport 443 -m length --length 80:65535 -j DROP"),
        Cause.UNFINISHED,
        says=("3 challenge requests arrived (from 198.51.100.1)",),
    ),
    "another program takes the requests": Scenario(
        stateless_redirection(443, 8443),
        Cause.OTHER_PROGRAM,
        says=("3 challenge requests arrived at this machine (from 198.51.100.1)",),
        options=("--standalone-nfq-capture=iptables",),
    ),
    "IPv6 is first and blocked, and there is no fallback": Scenario(
        rules(client, "filter OUTPUT -p tcp --dport 443 -j DROP"),
        Cause.NOTHING,
        lambda world: (world.server.ipv6,),
        says=("(found: 2001:db8:100::2)",),
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_the_hint_names_what_failed_and_nothing_else(
    world: World, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    hint = hint_of(world, scenario, *BY_TLS)
    record_property("hint", hint)
    assert [cause for cause, telltale in TELLS.items() if telltale in hint] == [scenario.cause], hint
    for words in scenario.says:
        assert words in hint
