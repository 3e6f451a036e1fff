"""Published ports whose clients' addresses are translated too: the server sees the connection come from our host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import hosts
from lab.capture import capture, flags
from lab.hosts import Host
from lab.http import CLOSE, PAGE_REQUEST, ask, body, request
from lab.interceptor import EBPF, KEY_AUTHORIZATION, KINDS, VARIANTS, intercepting
from lab.nginx import OTHER_ANSWER, OTHER_TOKEN, PAGE, nginx
from lab.processes import wait_until
from tests.netns.conftest import Lab


def _both(server: Host, behind: Host, *rules: str) -> None:
    """Put rules into the nat table for both IP versions; TO is the web server's address and port."""
    for program, to in (("iptables", behind.ipv4), ("ip6tables", f"[{behind.ipv6}]")):
        for rule in rules:
            server.run(program, "-t", "nat", *rule.replace("TO", f"{to}:8080").split())


def by_masquerading(server: Host, behind: Host) -> None:
    _both(
        server,
        behind,
        "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination TO",
        "-A POSTROUTING -o inside -j MASQUERADE",
        "-A POSTROUTING -o eth0 -j MASQUERADE",
    )


def by_kube_proxy(server: Host, behind: Host) -> None:
    """As kube-proxy's Cluster policy does it, whose mark is removed before the packet leaves."""
    _both(
        server,
        behind,
        *("-N KUBE-SERVICES", "-N KUBE-EXT", "-N KUBE-MARK-MASQ", "-N KUBE-SEP", "-N KUBE-POSTROUTING"),
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        "-A KUBE-SEP -p tcp -m tcp -j DNAT --to-destination TO",
        *("-A KUBE-EXT -j KUBE-MARK-MASQ", "-A KUBE-EXT -j KUBE-SEP"),
        *("-A KUBE-SERVICES -p tcp --dport 80 -j KUBE-EXT", "-A PREROUTING -j KUBE-SERVICES"),
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        "-A POSTROUTING -j KUBE-POSTROUTING",
    )


def by_nft(server: Host, behind: Host) -> None:
    rules = f"""
    table inet published {{
      chain in {{ type nat hook prerouting priority dstnat
        ip version 4 tcp dport 80 dnat ip to {behind.ipv4}:8080
        ip6 version 6 tcp dport 80 dnat ip6 to [{behind.ipv6}]:8080
      }}
      chain out {{ type nat hook postrouting priority srcnat; oifname {{ "inside", "eth0" }} masquerade; }}
    }}"""
    server.run("nft", "-f", "-", input=rules)


def by_one_address(server: Host, behind: Host) -> None:
    """The web server sees the connections come from one fixed address, as from a load balancer."""
    _both(server, behind, "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination TO")
    for program, to in (("iptables", "198.51.101.1"), ("ip6tables", "2001:db8:101::1")):
        server.run(program, "-t", "nat", "-A", "POSTROUTING", "-o", "inside", "-j", "SNAT", "--to-source", to)


WAYS: list[Callable[[Host, Host], None]] = [by_masquerading, by_kube_proxy, by_nft, by_one_address]


@pytest.fixture(scope="module", params=WAYS, ids=lambda translate: translate.__name__)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A client, a host with the plugin, and nginx on port 8080 of a third, to which all clients are the host."""
    folder = tmp_path_factory.mktemp("published")
    with hosts.pair() as (client, server), hosts.host("d") as behind:
        hosts.retransmit_late(client)
        hosts.put_behind(server, behind)
        request.param(server, behind)
        with nginx(behind, folder / "nginx", port=8080) as running:
            yield Lab(client, server, running, folder)


@pytest.fixture(
    scope="module", params=[*((each, "prefilter") for each in (*VARIANTS, *EBPF)), *((each, "port") for each in KINDS)]
)
def active(published: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    variant, selection = request.param
    with intercepting(published.server, capture=variant, selection=selection):
        yield published


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_a_challenge_is_answered(active: Lab, version: str, tmp_path: Path) -> None:
    address, log, before = getattr(active.server, version), active.nginx.access_log, active.client.complaints()
    with capture(active.client, tmp_path / "client.pcap") as captured:
        assert body(ask(active.client, address)) == KEY_AUTHORIZATION
        wait_until(lambda: not active.client.closing(), "the client's close is acknowledged")
    assert flags(captured.segments()) == ["S", "SA", "PA", "FPA", "FA", "A"]
    assert active.client.complaints() == before
    assert active.nginx.access_log == log
    wait_until(lambda: "ESTAB" not in active.nginx.host.run("ss", "-tanH", "sport = :8080"), "nginx let go of it")


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_a_challenge_from_the_server_itself_is_answered(active: Lab, version: str) -> None:
    """A hairpin: what is behind our host asks for a name that leads to our host."""
    assert body(ask(active.nginx.host, getattr(active.server, version))) == KEY_AUTHORIZATION


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_other_requests_reach_the_server(active: Lab, version: str) -> None:
    address = getattr(active.server, version)
    assert body(ask(active.client, address, PAGE_REQUEST)) == PAGE
    assert body(ask(active.client, address, request(OTHER_TOKEN, headers=CLOSE))) == OTHER_ANSWER
