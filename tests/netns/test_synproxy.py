"""Behind SYNPROXY, which shakes hands in the server's place: conntrack changes the numbers in what the server sends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.bystander import Bystander, offer
from lab.hosts import Host
from lab.http import ask, body
from lab.interceptor import EBPF, KEY_AUTHORIZATION, KINDS, intercepting
from lab.processes import wait_until
from tests.netns.test_networks import Network, in_a_container, is_served

_UNTRACKED = "-t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack"
_SHAKE_HANDS = (
    "-A INPUT -i eth0 -p tcp --dport 80 -m conntrack --ctstate INVALID,UNTRACKED "
    "-j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1400"
)


def as_its_manual_page_has_it(network: Network) -> None:
    network.firewall(_UNTRACKED, _SHAKE_HANDS, "-A INPUT -m conntrack --ctstate INVALID -j DROP")
    network.serve()


def without_timestamps(network: Network) -> None:
    network.firewall(_UNTRACKED, _SHAKE_HANDS.replace(" --timestamp", ""))
    network.serve()


def in_front_of_a_container(network: Network) -> None:
    in_a_container(network)
    network.firewall(_UNTRACKED, _SHAKE_HANDS, "-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    # SYNPROXY's own packet to the server is one of this machine's, so it is translated in OUTPUT, as Docker does.
    for program, to in (("iptables", "198.51.101.2:8080"), ("ip6tables", "[2001:db8:101::2]:8080")):
        rule = "-t nat -A OUTPUT -p tcp --dport 80 -m addrtype --dst-type LOCAL -j DNAT --to-destination"
        network.server.run(program, *rule.split(), to)


def by_nft(network: Network) -> None:
    rules = """
    table inet guarded {
      chain pre { type filter hook prerouting priority raw; tcp dport 80 tcp flags syn notrack; }
      chain in { type filter hook input priority filter
        tcp dport 80 ct state invalid,untracked synproxy mss 1400 wscale 7 timestamp sack-perm
        ct state invalid drop
      }
    }"""
    network.server.run("nft", "-f", "-", input=rules)
    network.serve()


@pytest.fixture(
    params=[as_its_manual_page_has_it, without_timestamps, in_front_of_a_container, by_nft],
    ids=lambda build: build.__name__,
)
def network(request: pytest.FixtureRequest, pair: tuple[Host, Host], tmp_path: Path) -> Iterator[Network]:
    client, server = pair
    server.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=1", "net.ipv4.tcp_timestamps=1")
    server.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
    with contextlib.ExitStack() as stack:
        built = Network(stack, tmp_path, client, server, addresses=[server.ipv4, server.ipv6])
        request.param(built)
        built.keep_order()
        yield built


def syn_acks_repeated(network: Network) -> int:
    """Return how often a server's TCP has sent a SYN-ACK again."""
    assert network.web_server
    servers = {host.name: host for host in (network.server, network.web_server.host)}.values()
    return sum(host.counter("TcpExtTCPSynRetrans") for host in servers)


@pytest.mark.firewall
@pytest.mark.parametrize("firewall", [*KINDS, *EBPF])
def test_challenges_are_answered_past_a_load(network: Network, firewall: str) -> None:
    client, web_server = network.client, network.web_server
    assert web_server
    digest = offer(web_server)
    assert all(is_served(network, address) for address in network.addresses)
    before, repeated_before = client.complaints(), syn_acks_repeated(network)
    with intercepting(network.server, capture=firewall):
        for address in network.addresses:
            bystander = Bystander(client, address, "", web_server, digest)
            bystander.start()
            for _ in range(20):
                assert body(ask(client, address)) == KEY_AUTHORIZATION
            bystander.join()
            assert bystander.failure == ""
        assert all(is_served(network, address) for address in network.addresses)
        wait_until(lambda: not client.closing(), "every close is acknowledged")
    # Without the plugin, too, the server may refuse SYNPROXY's handshake, as the timestamp in it can be a millisecond
    # too late (net/ipv4/tcp_minisocks.c, TSEcrRejected). It repeats its SYN-ACK then, about which the client complains.
    repeated = syn_acks_repeated(network) - repeated_before
    more = {name: count - before[name] for name, count in client.complaints().items()}
    assert max(more.pop("TcpInErrs"), more.pop("TcpExtTCPChallengeACK")) <= repeated
    assert more == {**dict.fromkeys(more, 0), "TcpRetransSegs": more["TcpRetransSegs"]}
    assert "acme-challenge/eva" not in web_server.access_log
