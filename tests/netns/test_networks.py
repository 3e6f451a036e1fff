"""Where packets really go: redirections, strict firewalls, second uplinks, bridges.

In each network a bystander downloads and uploads a hundred mebibytes while challenges are answered; both must arrive
as they were sent, and every connection must end as if nobody had touched it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import hosts
from lab.bystander import Bystander, offer
from lab.capture import capture
from lab.hosts import Host
from lab.http import CLOSE, PAGE_REQUEST, ask, body, request
from lab.interceptor import EBPF, KEY_AUTHORIZATION, KINDS, intercepting
from lab.nginx import OTHER_ANSWER, OTHER_TOKEN, PAGE, Nginx, nginx
from lab.processes import wait_until


@dataclass
class Network:
    """Two hosts, or more behind the server, and how the client gets at the web server."""

    stack: contextlib.ExitStack
    folder: Path
    client: Host
    server: Host
    web_server: Nginx | None = None
    addresses: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    interface: str = "eth0"

    def serve(self, host: Host | None = None, port: int = 80, listen: str = "") -> None:
        """Run nginx."""
        folder = self.folder / "nginx"
        self.web_server = self.stack.enter_context(nginx(host or self.server, folder, port=port, listen=listen))

    def keep_order(self) -> None:
        """Let no packet overtake another: no host is to complain."""
        assert self.web_server
        for host in (self.client, self.server, self.web_server.host):
            host.keep_order()

    def firewall(self, *rules: str) -> None:
        """Put the same rules into the server's firewall for both families."""
        for program in ("iptables", "ip6tables"):
            for rule in rules:
                self.server.run(program, *rule.split())


def redirected(network: Network) -> None:
    network.firewall("-t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080")
    network.serve(port=8080)


def redirected_from_one_address(network: Network) -> None:
    """The server sees all connections come from the machine itself."""
    redirected(network)
    for program, address in (("iptables", network.server.ipv4), ("ip6tables", network.server.ipv6)):
        translate = ("-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "SNAT", "--to-source", address)
        network.server.run(program, "-t", "nat", *translate)


def bound_to_its_addresses(network: Network) -> None:
    server = network.server
    network.serve(listen=f"listen {server.ipv4}:80; listen [{server.ipv6}]:80;")


def masquerading(network: Network) -> None:
    network.firewall("-t nat -A POSTROUTING -o eth0 -j MASQUERADE")
    network.serve()


def _close_everything(network: Network) -> None:
    """Drop whatever is invalid or not asked for; new connections only inwards."""
    network.firewall(
        *("-P INPUT DROP", "-P OUTPUT DROP", "-P FORWARD DROP"),
        *(f"-A {chain} -m conntrack --ctstate INVALID -j DROP" for chain in ("INPUT", "OUTPUT", "FORWARD")),
        *(f"-A {chain} -m conntrack --ctstate ESTABLISHED -j ACCEPT" for chain in ("INPUT", "OUTPUT", "FORWARD")),
        *("-A INPUT -i lo -j ACCEPT", "-A OUTPUT -o lo -j ACCEPT"),
    )
    for chain in ("INPUT", "OUTPUT"):
        network.server.run("ip6tables", "-I", chain, "-p", "icmpv6", "-j", "ACCEPT")


def behind_a_strict_firewall(network: Network) -> None:
    _close_everything(network)
    network.firewall("-A INPUT -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT")
    network.serve()


def not_tracked(network: Network) -> None:
    network.firewall(
        "-t raw -A PREROUTING -p tcp --dport 80 -j NOTRACK", "-t raw -A OUTPUT -p tcp --sport 80 -j CT --notrack"
    )
    network.serve()


def not_tracked_by_nft(network: Network) -> None:
    rules = """
    table inet untracked {
      chain in { type filter hook prerouting priority raw; tcp dport 80 notrack; }
      chain out { type filter hook output priority raw; tcp sport 80 notrack; }
    }"""
    network.server.run("nft", "-f", "-", input=rules)
    network.serve()


_LIKE_FIREWALLD = """
table inet firewalld {
  chain in { type filter hook input priority filter + 10; policy accept; ct state { established, related } accept
    ct status dnat accept; iifname "lo" accept; ct state invalid drop; jump zones
    reject with icmpx admin-prohibited; }
  chain zones { tcp dport { 22, 80 } accept; meta l4proto { icmp, ipv6-icmp } accept; }
  chain fw { type filter hook forward priority filter + 10; policy accept; ct state { established, related } accept
    ct status dnat accept; iifname "lo" accept; ct state invalid drop; reject with icmpx admin-prohibited; }
  chain out { type filter hook output priority filter + 10; policy accept; ct state { established, related } accept
    oifname "lo" accept; }
  chain mangle { type filter hook prerouting priority mangle + 10; policy accept; jump helpers; }
  chain helpers { fib saddr . mark . iif oif missing meta nfproto ipv6 drop; }
}
"""


def beside_a_firewall_like_firewalld(network: Network) -> None:
    network.server.run("nft", "-f", "-", input=_LIKE_FIREWALLD)
    network.serve()


def beside_a_firewall_like_ufw(network: Network) -> None:
    network.firewall("-P INPUT DROP", "-P FORWARD DROP", "-N before", "-N user", "-N skip", "-N not-local")
    network.firewall(
        *("-A INPUT -j before", "-A before -i lo -j ACCEPT", "-A before -m conntrack --ctstate INVALID -j DROP"),
        "-A before -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        *("-A before -j not-local", "-A not-local -m addrtype --dst-type LOCAL -j RETURN", "-A not-local -j DROP"),
        *("-A before -j user", "-A user -p tcp --dport 80 -j ACCEPT", "-A INPUT -j skip", "-A skip -j DROP"),
    )
    network.server.run("ip6tables", "-I", "before", "-p", "icmpv6", "-j", "ACCEPT")
    network.serve()


def with_strict_reverse_path_filtering(network: Network) -> None:
    for host in (network.client, network.server):
        _filter_reverse_paths(host)
    network.serve()


def _filter_reverse_paths(host: Host) -> None:
    host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1")
    host.run("ip6tables", "-t", "raw", "-A", "PREROUTING", "-m", "rpfilter", "--invert", "-j", "DROP")


def _add_uplink(network: Network) -> list[tuple[str, str]]:
    """Add a second uplink with its default route in table 101; return its addresses with their IP versions."""
    client, server = network.client, network.server
    gateway4, gateway6, second4, second6 = hosts.cable(client, server, 101, "eth1", "eth1")
    for family, gateway, first, ours, theirs in (
        ("-4", gateway4, client.ipv4, second4, "203.0.113.1"),
        ("-6", gateway6, client.ipv6, second6, "2001:db8:9::1"),
    ):
        client.run("ip", family, "address", "add", theirs, "dev", "lo")
        server.run("ip", family, "route", "add", "default", "via", first)
        server.run("ip", family, "route", "add", "default", "via", gateway, "table", "101")
        network.addresses.append(ours)
        network.sources[ours] = theirs
    _filter_reverse_paths(client)
    network.interface = "eth1"
    return [("-4", second4), ("-6", second6)]


def over_a_second_uplink(network: Network) -> None:
    """The client's address is reached by the first uplink, unless the answer comes from the second's address."""
    for family, address in _add_uplink(network):
        network.server.run("ip", family, "rule", "add", "from", address, "table", "101")
    network.serve()


def over_a_second_uplink_that_whole_connection_marks_lead_to(network: Network) -> None:
    """The client's address is reached by the first uplink, unless the connection came by the second."""
    for family, program in (("-4", "iptables"), ("-6", "ip6tables")):
        network.server.run("ip", family, "rule", "add", "fwmark", "1", "table", "101")
        network.server.run(
            program, "-t", "mangle", "-A", "PREROUTING", "-i", "eth1", "-j", "CONNMARK", "--set-mark", "1"
        )
        network.server.run(program, "-t", "mangle", "-A", "OUTPUT", "-j", "CONNMARK", "--restore-mark")
    _add_uplink(network)
    network.serve()


def over_a_second_uplink_that_inherited_marks_lead_to(network: Network) -> None:
    """The client's address is reached by the first uplink, unless the server's socket has its packets' mark."""
    network.server.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=1")
    network.firewall("-t mangle -A PREROUTING -i eth1 -j MARK --set-mark 0x65")
    for family, _ in _add_uplink(network):
        network.server.run("ip", family, "rule", "add", "fwmark", "0x65", "table", "101")
    network.serve()


def over_a_second_uplink_that_its_port_leads_to(network: Network) -> None:
    """The client's address is reached by the first uplink, unless TCP's source port is the web server's."""
    for family, _ in _add_uplink(network):
        network.server.run("ip", family, "rule", "add", "ipproto", "tcp", "sport", "80", "table", "101")
    network.serve()


def at_a_link_local_address(network: Network) -> None:
    shown = network.server.run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
    network.addresses.append(f"{shown.split()[3].split('/')[0]}%eth0")
    network.serve()


def on_a_bridge(network: Network) -> None:
    server = network.server
    server.run("ip", "link", "add", "br0", "type", "bridge")
    server.run("ip", "address", "flush", "dev", "eth0")
    server.run("ip", "link", "set", "eth0", "master", "br0")
    server.run("ip", "link", "set", "br0", "up")
    _give_addresses(server, "br0")
    network.serve()


def on_a_vlan(network: Network) -> None:
    for host in (network.client, network.server):
        host.run("ip", "link", "add", "link", "eth0", "name", "eth0.7", "type", "vlan", "id", "7")
        host.run("ip", "address", "flush", "dev", "eth0")
        host.run("ip", "link", "set", "eth0.7", "up")
        _give_addresses(host, "eth0.7")
    network.interface = "eth0.7"
    network.serve()


def in_a_vrf(network: Network) -> None:
    server = network.server
    server.run("ip", "link", "add", "web", "type", "vrf", "table", "10")
    server.run("ip", "link", "set", "web", "up")
    server.run("ip", "address", "flush", "dev", "eth0")
    server.run("ip", "link", "set", "eth0", "master", "web")
    _give_addresses(server, "eth0")
    server.run("sysctl", "-qw", "net.ipv4.tcp_l3mdev_accept=1")
    network.serve()


def _give_addresses(host: Host, interface: str) -> None:
    host.run("ip", "address", "add", f"{host.ipv4}/24", "dev", interface)
    host.run("ip", "address", "add", f"{host.ipv6}/64", "dev", interface, "nodad")


def in_a_container(network: Network) -> None:
    behind = network.stack.enter_context(hosts.host("d"))
    hosts.publish(network.server, behind, 8080)
    network.serve(behind, port=8080)


def in_a_container_behind_a_strict_firewall(network: Network) -> None:
    in_a_container(network)
    _close_everything(network)
    network.firewall("-A FORWARD -p tcp --dport 8080 -m conntrack --ctstate NEW -j ACCEPT")


NETWORKS: list[Callable[[Network], None]] = [
    redirected,
    redirected_from_one_address,
    bound_to_its_addresses,
    masquerading,
    behind_a_strict_firewall,
    not_tracked,
    not_tracked_by_nft,
    beside_a_firewall_like_firewalld,
    beside_a_firewall_like_ufw,
    with_strict_reverse_path_filtering,
    over_a_second_uplink,
    over_a_second_uplink_that_whole_connection_marks_lead_to,
    over_a_second_uplink_that_inherited_marks_lead_to,
    over_a_second_uplink_that_its_port_leads_to,
    at_a_link_local_address,
    on_a_bridge,
    in_a_container,
    in_a_container_behind_a_strict_firewall,
    *(
        [on_a_vlan]
        if hosts.kernel_can("ip", "link", "add", "link", "eth0", "name", "probe", "type", "vlan", "id", "7")
        else []
    ),
    *([in_a_vrf] if hosts.kernel_can("ip", "link", "add", "probe", "type", "vrf", "table", "10") else []),
]


@pytest.fixture(params=NETWORKS, ids=lambda build: build.__name__)
def network(request: pytest.FixtureRequest, pair: tuple[Host, Host], tmp_path: Path) -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        built = Network(stack, tmp_path, *pair)
        request.param(built)
        built.addresses = built.addresses or [built.server.ipv4, built.server.ipv6]
        built.keep_order()
        yield built


def is_served(network: Network, address: str) -> bool:
    source = network.sources.get(address, "")
    asked = {PAGE_REQUEST: PAGE, request(OTHER_TOKEN, headers=CLOSE): OTHER_ANSWER}
    return all(body(ask(network.client, address, octets, source=source)) == answer for octets, answer in asked.items())


def invalid_packets(host: Host) -> int:
    """Return how many packets conntrack has called invalid."""
    return sum(map(int, re.findall(r" invalid=(\d+)", host.run("conntrack", "-S"))))


@pytest.mark.firewall
@pytest.mark.parametrize("kind", [*KINDS, *EBPF])
def test_challenges_are_answered_and_nobody_else_notices(network: Network, tmp_path: Path, kind: str) -> None:
    client, web_server = network.client, network.web_server
    assert web_server
    digest = offer(web_server)
    assert all(is_served(network, address) for address in network.addresses)
    before, invalid = client.complaints(), invalid_packets(network.server)
    with (
        capture(client, tmp_path / "resets.pcap", "src port 80 and tcp[13] & 4 != 0", network.interface) as resets4,
        capture(client, tmp_path / "resets6.pcap", "src port 80 and ip6[53] & 4 != 0", network.interface) as resets6,
        intercepting(network.server, capture=kind),
    ):
        source = [network.sources.get(address, "") for address in network.addresses]
        bystanders = [
            Bystander(client, address, source[index], web_server, digest)
            for index, address in enumerate(network.addresses)
        ]
        for bystander in bystanders:
            bystander.start()
            answered = 0
            while bystander.is_alive() or answered < 10:
                for index, address in enumerate(network.addresses):
                    assert body(ask(client, address, source=source[index])) == KEY_AUTHORIZATION
                    answered += 1
            bystander.join()
            assert bystander.failure == ""
        assert all(is_served(network, address) for address in network.addresses)
        wait_until(lambda: not client.closing(), "every close is acknowledged")
    assert all(is_served(network, address) for address in network.addresses)
    assert (resets4.segments(), resets6.segments()) == ([], [])
    after = client.complaints()
    assert {name: after[name] for name in after if name != "TcpRetransSegs"} == {
        name: before[name] for name in before if name != "TcpRetransSegs"
    }
    assert invalid_packets(network.server) == invalid
    assert "acme-challenge/eva" not in web_server.access_log
