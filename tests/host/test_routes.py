"""The next hop of packets whose ports or protocol matter to their route, by the real kernel's rules."""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

import pytest

from certbot_standalone_nfq.host.routes import Hop, Routes
from lab import hosts
from lab.hosts import Host

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


class Uplinks(NamedTuple):
    """A host with two uplinks: the first has the default route, the second the one of table 101."""

    version: int
    host: Host
    own: str
    gateway: str
    """The second uplink's."""
    interface: int
    stranger: str
    """An address elsewhere."""
    neighbour: str
    """An address on the first uplink's link."""

    def ip(self, *command: str) -> None:
        self.host.run("ip", f"-{self.version}", *command)

    def hop(self, port: int = 80, protocol: int = TCP, mark: int = 0, to: str = "") -> Hop | None:
        """Return the next hop of what the host sends from a port."""
        with self.host.inside(), contextlib.closing(Routes()) as routes:
            return routes.by_ports(protocol, (self.own, port), (to or self.stranger, 40000), mark)

    @property
    def second(self) -> Hop:
        """The next hop by the second uplink."""
        return Hop(self.interface, self.gateway)


@pytest.fixture(params=[4, 6])
def uplinks(request: pytest.FixtureRequest, pair: tuple[Host, Host]) -> Uplinks:
    client, server = pair
    gateway4, gateway6, *_ = hosts.cable(client, server, 101, "eth1", "eth1")
    own, neighbour, gateway, stranger = {
        4: (server.ipv4, client.ipv4, gateway4, "203.0.113.1"),
        6: (server.ipv6, client.ipv6, gateway6, "2001:db8:9::1"),
    }[request.param]
    with server.inside():
        interface = socket.if_nametoindex("eth1")
    found = Uplinks(request.param, server, own, gateway, interface, stranger, neighbour)
    found.ip("route", "add", "default", "via", neighbour)
    found.ip("route", "add", "default", "via", gateway, "table", "101")
    return found


def test_where_no_rule_asks_for_ports_there_is_nothing_to_say(uplinks: Uplinks) -> None:
    assert uplinks.hop() is None
    uplinks.ip("rule", "add", "from", uplinks.own, "table", "101")  # a raw socket heeds that by itself
    assert uplinks.hop() is None


def test_a_rule_for_a_source_port_leads_its_packets_alone(uplinks: Uplinks) -> None:
    uplinks.ip("rule", "add", "ipproto", "tcp", "sport", "80", "table", "101")
    assert uplinks.hop() == uplinks.second
    assert uplinks.hop(port=443) is None
    assert uplinks.hop(protocol=UDP) is None


def test_a_rule_for_a_protocol_or_the_clients_port_counts_as_well(uplinks: Uplinks) -> None:
    uplinks.ip("rule", "add", "ipproto", "udp", "dport", "40000", "table", "101")
    assert uplinks.hop(port=53, protocol=UDP) == uplinks.second
    assert uplinks.hop(port=53) is None
    uplinks.ip("rule", "add", "ipproto", "tcp", "table", "101")
    assert uplinks.hop() == uplinks.second


def test_a_rule_that_asks_for_a_mark_too_leads_what_has_the_mark(uplinks: Uplinks) -> None:
    uplinks.ip("rule", "add", "fwmark", "0x65", "ipproto", "tcp", "sport", "80", "table", "101")
    assert uplinks.hop() is None
    assert uplinks.hop(mark=0x65) == uplinks.second


def test_a_destination_on_the_link_has_no_gateway(uplinks: Uplinks) -> None:
    uplinks.ip("route", "add", uplinks.stranger, "dev", "eth1", "table", "102")
    uplinks.ip("rule", "add", "ipproto", "tcp", "sport", "80", "table", "102")
    assert uplinks.hop() == Hop(uplinks.interface, "")


def test_where_the_rule_leads_to_no_route_or_nowhere_it_is_an_error(uplinks: Uplinks) -> None:
    uplinks.ip("rule", "add", "ipproto", "tcp", "sport", "80", "unreachable")
    with pytest.raises(OSError, match=r"unreachable|No route"):
        uplinks.hop()


def test_a_source_that_this_machine_does_not_have_is_an_error_over_ipv4(uplinks: Uplinks) -> None:
    """A container's, for example; over IPv6 the kernel does not mind."""
    elsewhere = uplinks._replace(own=uplinks.neighbour)
    if uplinks.version == 6:
        assert elsewhere.hop() is None
        return
    with pytest.raises(OSError, match=r"unreachable|Invalid argument"):
        elsewhere.hop()


def test_this_machine_itself_is_no_hop(uplinks: Uplinks) -> None:
    assert uplinks.hop(to=uplinks.own) is None
