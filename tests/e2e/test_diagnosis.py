"""Failures that are really produced, with real certbot and Pebble: the hint must name the right one, and no other."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from certbot_standalone_nfq.diagnosis.cause import Cause
from lab import hosts
from lab.certbot import Certbot
from lab.dns import resolving
from lab.hosts import Host
from lab.http import PAGE_REQUEST, body, read_all
from lab.impostors import impostor, not_found, redirect, spoiling_proxy
from lab.nginx import PAGE, nginx
from lab.pebble import pebble
from lab.processes import wait_until
from tests.e2e.conftest import Internet

TELLTALES = {
    Cause.NAME_TROUBLE: "Correct its DNS zone",
    Cause.UNACKNOWLEDGED: "no answer was acknowledged",
    Cause.BEHIND_PROXY: "proxy or CDN at",
    Cause.OTHER_PERSPECTIVE: "CAs validate from several places",
    Cause.ALTERED: "something added behind the token",
    Cause.OTHER_PROGRAM: "did not reach this plugin",
    Cause.REDIRECTED: "the CA was redirected",
    Cause.NOT_THIS_MACHINE: "of this machine. Correct its A and AAAA",
    Cause.REFUSED: "refused by this machine",
    Cause.DROPPED: "but it did not answer",
    Cause.RETURN_PATH: "but the answer did not arrive",
    Cause.NO_REQUEST: "but no challenge request followed",
    Cause.ONE_FAMILY: "or remove that record",
    Cause.NOTHING: "provider blocks the port on the way",
}
"""What the hint says for one cause only."""


@dataclass
class World(Internet):
    """The internet, with addresses to spare."""

    bare4: str = "198.51.100.3"
    """Addresses of the server at which nothing listens."""
    bare6: str = "2001:db8:100::3"
    other4: str = "198.51.100.4"
    """Addresses of the client's host, which is not the server."""
    other6: str = "2001:db8:100::4"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with (
        hosts.pair() as (client, server),
        resolving(server, client.ipv4),
        nginx(server, folder / "nginx", listen=_listen(server)) as web_server,
        pebble(client, folder / "pebble") as authority,
    ):
        hosts.track_connections(server)  # so there are rules to wait for
        made = World(client, server, web_server, authority, Certbot(server, authority, folder / "certbot"))
        for host, four, six in ((server, made.bare4, made.bare6), (client, made.other4, made.other6)):
            host.run("ip", "address", "add", f"{four}/24", "dev", "eth0")
            host.run("ip", "address", "add", f"{six}/64", "dev", "eth0", "nodad")
        yield made


def _listen(server: Host) -> str:
    """Return nginx's directives for one address of each family, for port 80 and where another program may lead it."""
    return " ".join(f"listen {address}:{port};" for address in (server.ipv4, f"[{server.ipv6}]") for port in (80, 8080))


Trouble = Callable[[World], contextlib.AbstractContextManager[object]]


def rules(where: Callable[[World], Host], *specifications: str) -> Trouble:
    """Return the trouble that firewall rules make on a host; a rule goes for both IP versions."""

    @contextlib.contextmanager
    def trouble(world: World) -> Iterator[None]:
        host = where(world)
        with contextlib.ExitStack() as undo:
            for specification in specifications:
                for program in ("iptables", "ip6tables"):
                    table, chain, *rule = specification.split()
                    host.run(program, "-t", table, "-A", chain, *rule)
                    undo.callback(host.run, program, "-t", table, "-D", chain, *rule)
            yield

    return trouble


def stateless_redirection(port: int, to: int) -> Trouble:
    """Return what redirects connections to another port ahead of conntrack, unseen by all behind it."""
    table = f"""
        chain in {{ type filter hook prerouting priority raw; tcp dport {port} notrack tcp dport set {to}; }}
        chain out {{ type filter hook output priority raw; tcp sport {to} notrack tcp sport set {port}; }}
    """

    @contextlib.contextmanager
    def trouble(world: World) -> Iterator[None]:
        world.server.run("nft", f"table inet thief {{ {table} }}")
        with contextlib.ExitStack() as undo:
            undo.callback(world.server.run, "nft", "delete table inet thief")
            yield

    return trouble


def server(world: World) -> Host:
    return world.server


def client(world: World) -> Host:
    return world.client


def nobody(_: World) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def bystander(world: World) -> Iterator[None]:
    """Let another client ask for a page while the challenges are pending."""

    def ask() -> None:
        wait_until(lambda: "-j NFQUEUE" in world.server.rules(), "the challenges are pending")
        with world.client.connect(world.server.ipv4, source_port=BYSTANDERS_PORT) as connection:
            connection.sendall(PAGE_REQUEST)
            served.append(body(read_all(connection)))

    served: list[str] = []
    thread = threading.Thread(target=ask, name="bystander")
    thread.start()
    yield
    thread.join()
    assert served == [PAGE]


@dataclass(frozen=True)
class Scenario:
    """What is wrong, where the name leads, and what the hint must say."""

    trouble: Trouble
    cause: Cause
    addresses: Callable[[World], tuple[str, ...]] = lambda world: (world.server.ipv4,)
    says: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    bystander: bool = False
    """Whether another client is served over IPv4 meanwhile."""


BYSTANDERS_PORT = 4001
BLACK_HOLE = f"filter OUTPUT -p tcp --dport 80 ! --sport {BYSTANDERS_PORT} -j DROP"
SCENARIOS = {
    "nothing arrives, as something on the way drops it": Scenario(
        rules(client, BLACK_HOLE), Cause.NOTHING, says=("no connection attempt arrived at TCP port 80",)
    ),
    "nothing arrives but other people's connections": Scenario(
        rules(client, BLACK_HOLE),
        Cause.NOTHING,
        says=("no challenge request arrived at TCP port 80", "1 other connection attempt did"),
        bystander=True,
    ),
    "the name leads to a host that answers instead": Scenario(
        lambda world: impostor(world.client, world.other4, not_found),
        Cause.NOT_THIS_MACHINE,
        lambda world: (world.other4,),
        says=("198.51.100.4, which is not an address of this machine",),
    ),
    "the name leads to a host that refuses": Scenario(
        nobody, Cause.NOT_THIS_MACHINE, lambda world: (world.other4,), says=("198.51.100.4",)
    ),
    "the AAAA record leads elsewhere": Scenario(
        lambda world: impostor(world.client, world.other6, not_found),
        Cause.NOT_THIS_MACHINE,
        lambda world: (world.server.ipv4, world.other6),
        says=("2001:db8:100::4, which is not an address",),
    ),
    "one of several A records leads elsewhere": Scenario(
        lambda world: impostor(world.client, world.other4, not_found),
        Cause.NOT_THIS_MACHINE,
        lambda world: (world.other4, world.server.ipv4),
        says=("198.51.100.4, which is not an address",),
    ),
    "a firewall here drops connections": Scenario(
        rules(server, "filter INPUT -p tcp --dport 80 -j DROP"),
        Cause.DROPPED,
        says=("over IPv4 (from 198.51.100.1)", "Allow incoming connections to TCP port 80"),
    ),
    "a firewall here rejects connections": Scenario(
        rules(server, "filter INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset"),
        Cause.REFUSED,
        says=("connections over IPv4 (from 198.51.100.1)", "although a program listens on port 80 of 198.51.100.2"),
    ),
    "nothing listens on the address": Scenario(
        nobody,
        Cause.REFUSED,
        lambda world: (world.bare4,),
        says=("of 198.51.100.3",),
        options=("--http-01-address", "198.51.100.2"),
    ),
    "nothing listens on IPv6": Scenario(
        nobody,
        Cause.REFUSED,
        lambda world: (world.bare6,),
        says=("over IPv6", "of 2001:db8:100::3"),
        options=("--http-01-address", "198.51.100.2"),
    ),
    "an inspecting firewall holds requests back": Scenario(
        rules(client, "filter OUTPUT -p tcp --dport 80 -m string --algo bm --string acme-challenge -j DROP"),
        Cause.NO_REQUEST,
        says=("over IPv4 (from 198.51.100.1)",),
    ),
    "the answer is lost on its way": Scenario(
        rules(client, "filter INPUT -p tcp --sport 80 -m length --length 80:65535 -j DROP"),
        Cause.UNACKNOWLEDGED,
        says=("3 challenge requests arrived (from 198.51.100.1)",),
    ),
    "the way back is blocked altogether": Scenario(
        rules(client, "filter INPUT -p tcp --sport 80 -j DROP"),
        Cause.RETURN_PATH,
        says=("over IPv4 (from 198.51.100.1)",),
    ),
    "one perspective is kept from asking": Scenario(
        rules(
            client,
            "filter OUTPUT -p tcp --dport 80 --syn -m statistic --mode nth --every 3 --packet 0"
            " -j REJECT --reject-with tcp-reset",
        ),
        Cause.OTHER_PERSPECTIVE,
        says=("2 challenge requests from 198.51.100.1 arrived and were answered", "The web server is not the cause"),
    ),
    "the name does not exist": Scenario(nobody, Cause.NAME_TROUBLE, lambda _: (), says=("could not look it up",)),
    "a proxy in front changes the answer": Scenario(
        lambda world: impostor(world.client, world.other4, spoiling_proxy(world.client, world.server.ipv4)),
        Cause.BEHIND_PROXY,
        lambda world: (world.other4,),
        says=("(headers x-forwarded-for, via)",),
    ),
    "a gateway in front redirects": Scenario(
        lambda world: impostor(world.client, world.other4, redirect),
        Cause.REDIRECTED,
        lambda world: (world.other4,),
        says=("without a redirect.",),
    ),
    "another program takes the requests": Scenario(
        stateless_redirection(80, 8080),
        Cause.OTHER_PROGRAM,
        says=("3 challenge requests arrived at this machine (from 198.51.100.1)",),
        options=("--standalone-nfq-capture=iptables",),
    ),
    "IPv6 is blocked on the way, and IPv4 works": Scenario(
        rules(client, BLACK_HOLE),
        Cause.ONE_FAMILY,
        lambda world: (world.server.ipv6,),
        says=("nothing arrived over IPv6", "AAAA record 2001:db8:100::2", "over IPv4, 1 connection attempt did"),
        bystander=True,
    ),
}


def hint_of(world: World, scenario: Scenario, *options: str) -> str:
    """Let a certificate's validation fail, and return Certbot's hint."""
    name = f"{secrets.token_hex(4)}.example.com"
    world.authority.resolve(name, *scenario.addresses(world))
    try:
        with scenario.trouble(world), bystander(world) if scenario.bystander else contextlib.nullcontext():
            result = world.certbot.certonly(name, options=(*options, *scenario.options))
    finally:
        shutil.rmtree(world.certbot.folder, ignore_errors=True)
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout.split("Hint: ")[1].split("\n\n")[0]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_the_hint_names_what_failed_and_nothing_else(
    world: World, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    hint = hint_of(world, scenario)
    record_property("hint", hint)
    assert [cause for cause, telltale in TELLTALES.items() if telltale in hint] == [scenario.cause], hint
    for words in scenario.says:
        assert words in hint
    assert len(hint.splitlines()) <= 6
