"""Forged segments, seen where they arrive."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.session.injector import Injector
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment, parse
from lab import hosts
from lab.hosts import Host


def segment(source: str, destination: str, **changes: int) -> Segment:
    return Segment(source, 80, destination, 45678, 1, 2, Flags.RST, 0, b"", None, **changes)


@contextlib.contextmanager
def listening(host: Host, address: str, interface: str = "") -> Iterator[socket.socket]:
    """Receive all TCP packets that come to a host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.inside(), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as receiver:
        receiver.settimeout(10)
        if interface:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        yield receiver


@pytest.fixture
def injector(pair: tuple[Host, Host]) -> Iterator[Injector]:
    with pair[1].inside():
        opened = Injector()
    yield opened
    opened.close()


def test_a_segment_arrives_as_it_was_given(pair: tuple[Host, Host], injector: Injector) -> None:
    client, server = pair
    with listening(client, client.ipv4) as receiver:
        injector.send(segment(server.ipv4, client.ipv4))
        assert parse(receiver.recv(1000)) == segment(server.ipv4, client.ipv4)


def test_a_segment_over_ipv6_comes_from_the_address_it_says(pair: tuple[Host, Host], injector: Injector) -> None:
    client, server = pair
    with listening(client, client.ipv6) as receiver:
        injector.send(segment(server.ipv6, client.ipv6))
        octets, source = receiver.recvfrom(1000)
        assert source[0] == server.ipv6
        assert len(octets) == 20


@pytest.mark.parametrize(("ours", "theirs"), [("203.0.113.9", "ipv4"), ("2001:db8:dead::9", "ipv6")])
def test_the_source_need_not_be_an_address_of_this_machine(
    pair: tuple[Host, Host], injector: Injector, ours: str, theirs: str
) -> None:
    client, server = pair
    client.run("ip", "route", "add", ours, "via", getattr(server, theirs))
    with listening(client, ours) as receiver:
        injector.send(segment(ours, getattr(client, theirs)))
        assert receiver.recvfrom(1000)[1][0] == ours


def test_the_route_is_looked_up_from_the_source_address(injector: Injector, pair: tuple[Host, Host]) -> None:
    client, server = pair
    second = hosts.cable(client, server, 101, "eth1", "eth1")
    for source, table, gateway in ((second[2], "101", second[0]), (second[3], "106", second[1])):
        family = "-6" if ":" in source else "-4"
        server.run("ip", family, "route", "add", "default", "via", gateway, "dev", "eth1", "table", table)
        server.run("ip", family, "rule", "add", "from", source, "table", table)
        client.run("ip", family, "address", "add", "2001:db8:9::1" if family == "-6" else "203.0.113.1", "dev", "lo")
        server.run("ip", family, "route", "add", "default", "via", client.ipv6 if family == "-6" else client.ipv4)
    hosts.wait_for_link_local(client, server)
    for source, elsewhere in ((second[2], "203.0.113.1"), (second[3], "2001:db8:9::1")):
        with listening(client, source, interface="eth1") as receiver:
            injector.send(segment(source, elsewhere))
            assert receiver.recvfrom(1000)[1][0] == source


def test_a_link_local_address_is_reached_over_the_interface_its_packets_came_by(
    pair: tuple[Host, Host], injector: Injector
) -> None:
    client, server = pair
    hosts.cable(client, server, 101, "eth1", "eth1")
    hosts.wait_for_link_local(client, server)
    addresses = {host.name: link_local(host, "eth1") for host in pair}
    with server.inside():
        interface = socket.if_nametoindex("eth1")
    with listening(client, "::", interface="eth1") as receiver:
        injector.send(segment(addresses[server.name], addresses[client.name], interface=interface))
        assert receiver.recvfrom(1000)[1][0].startswith("fe80:")


def link_local(host: Host, interface: str) -> str:
    return host.run("ip", "-6", "-o", "address", "show", "dev", interface, "scope", "link").split()[3].split("/")[0]


def test_a_firewall_that_forbids_it_is_an_error(pair: tuple[Host, Host], injector: Injector) -> None:
    client, server = pair
    server.run("iptables", "-A", "OUTPUT", "-p", "tcp", "-j", "DROP")
    with pytest.raises(PermissionError):
        injector.send(segment(server.ipv4, client.ipv4))


def test_without_the_privilege_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    monkeypatch.setattr(privileges, "missing_capabilities", lambda: ["CAP_NET_RAW"])
    with pytest.raises(errors.NotPermitted, match="without CAP_NET_RAW"):
        Injector()


def test_a_kernel_without_ipv6_serves_ipv4(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = pair
    real = socket.socket

    def without_ipv6(family: int, *arguments: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *arguments)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with server.inside():
        injector = Injector()
    monkeypatch.undo()
    with listening(client, client.ipv4) as receiver:
        injector.send(segment(server.ipv4, client.ipv4))
        assert receiver.recv(1000)
    injector.close()
