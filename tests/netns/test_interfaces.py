"""Captures by eBPF on interfaces of many kinds, as they come, change and go, and the ways that answers leave by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hosts
from lab.capture import capture
from lab.ebpf import attached
from lab.hosts import Host
from lab.http import PAGE_REQUEST, ask, body, request
from lab.interceptor import KEY_AUTHORIZATION, intercepting
from lab.nginx import nginx
from lab.processes import load_module, wait_until
from lab.tunnel import tunnel
from tests.netns.conftest import Lab

FAMILIES = ["ipv4", "ipv6"]
ELSEWHERE = {"ipv4": "203.0.113.1", "ipv6": "2001:db8:9::1"}


def move_addresses(host: Host, interface: str) -> None:
    """Give eth0's addresses to another interface."""
    host.run("ip", "address", "flush", "dev", "eth0")
    host.run("ip", "link", "set", interface, "up")
    host.run("ip", "address", "add", f"{host.ipv4}/24", "dev", interface)
    host.run("ip", "address", "add", f"{host.ipv6}/64", "dev", interface, "nodad")


def plain(_: Host) -> None:
    """Cables between machines."""


def macvlan(server: Host) -> None:
    server.run("ip", "link", "add", "link", "eth0", "name", "mac0", "type", "macvlan", "mode", "bridge")
    move_addresses(server, "mac0")


def bridge(server: Host) -> None:
    server.run("ip", "link", "add", "br0", "type", "bridge")
    server.run("ip", "link", "set", "eth0", "master", "br0")
    move_addresses(server, "br0")


def bridge_whose_packets_pass_iptables(server: Host) -> None:
    bridge(server)
    load_module("br_netfilter")
    server.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1", "net.bridge.bridge-nf-call-ip6tables=1")
    for program in ("iptables", "ip6tables"):
        redirect = ("-p", "tcp", "--dport", "80", "-j", "REDIRECT", "--to-ports", "8080")
        server.run(program, "-t", "nat", "-A", "PREROUTING", *redirect)


@pytest.fixture(params=[plain, macvlan, bridge, bridge_whose_packets_pass_iptables], ids=lambda each: each.__name__)
def active(request: pytest.FixtureRequest, pair: tuple[Host, Host], tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A client and a server whose nginx has ports 80 and 8080, while a challenge is pending."""
    request.param(pair[1])
    listen = "listen 80; listen [::]:80; listen 8080; listen [::]:8080;"
    with nginx(pair[1], tmp_path / "nginx", listen=listen), intercepting(pair[1], capture="ebpf"):
        yield pair


@pytest.mark.parametrize("family", FAMILIES)
def test_a_challenge_is_answered_on_each_kind_of_interface(active: tuple[Host, Host], family: str) -> None:
    client, server = active
    assert body(ask(client, getattr(server, family))) == KEY_AUTHORIZATION
    wait_until(lambda: not client.closing(), "the client's close is acknowledged")
    assert "answer" not in body(ask(client, getattr(server, family), PAGE_REQUEST))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "its own IPv4", "its own IPv6"])
def test_a_challenge_from_the_machine_itself_is_answered(lab: Lab, address: str) -> None:
    own = {"its own IPv4": lab.server.ipv4, "its own IPv6": lab.server.ipv6}
    with intercepting(lab.server, capture="ebpf"):
        assert body(ask(lab.server, own.get(address, address))) == KEY_AUTHORIZATION


def test_a_challenge_through_a_tunnel_is_answered(lab: Lab) -> None:
    """Its packets have no link header."""
    with tunnel(lab.client, lab.server) as (ours, theirs), intercepting(lab.server, capture="ebpf"):
        for address in (ours, theirs):
            assert body(ask(lab.client, address)) == KEY_AUTHORIZATION


def test_an_interface_that_comes_is_looked_at_and_one_that_goes_is_let_go_of(lab: Lab) -> None:
    with hosts.host("x") as elsewhere, intercepting(lab.server, capture="ebpf"):
        before = attached(lab.server)
        _, _, ipv4, ipv6 = hosts.cable(lab.client, lab.server, 102, "eth2", "eth2")
        wait_until(lambda: len(attached(lab.server)) == len(before) + 2, "programs at the new interface")
        for address in (ipv4, ipv6):
            assert body(ask(lab.client, address)) == KEY_AUTHORIZATION
        lab.server.run("ip", "link", "set", "eth2", "netns", elsewhere.name)
        wait_until(lambda: attached(lab.server) == before, "programs where they were")
        wait_until(lambda: attached(elsewhere) == [], "none in the other namespace")
        lab.client.run("ip", "link", "delete", "eth2")
    assert attached(lab.server) == []


@contextlib.contextmanager
def returning_directly(client: Host, server: Host) -> Iterator[None]:
    """Have packets to some address of the client leave by another interface than its requests come by."""
    gateway4, gateway6, _, _ = hosts.cable(client, server, 103, "eth3", "eth3")
    for family, to, gateway in (("-4", ELSEWHERE["ipv4"], gateway4), ("-6", ELSEWHERE["ipv6"], gateway6)):
        client.run("ip", family, "address", "add", to, "dev", "lo")
        server.run("ip", family, "route", "add", to, "via", gateway)
    try:
        yield
    finally:
        client.run("ip", "link", "delete", "eth3")
        for family, to in (("-4", ELSEWHERE["ipv4"]), ("-6", ELSEWHERE["ipv6"])):
            client.run("ip", family, "address", "delete", to, "dev", "lo")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_leave_by_the_interface_that_the_servers_packets_leave_by(
    lab: Lab, tmp_path: Path, family: str
) -> None:
    address, client = getattr(lab.server, family), lab.client
    with returning_directly(client, lab.server), intercepting(lab.server, capture="ebpf"):
        with capture(client, tmp_path / "direct.pcap", "src port 80", "eth3") as direct:
            assert body(ask(client, address, source=ELSEWHERE[family])) == KEY_AUTHORIZATION
            wait_until(lambda: not client.closing(), "the client's close is acknowledged")
        assert [str(each["TCP"].flags) for each in direct.segments()].count("FPA") == 1


def change_link_address(client: Host) -> None:
    """Give eth0 another link address, as if another router had taken over."""
    client.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    client.run("ip", "neigh", "flush", "dev", "eth0")


def test_answers_follow_a_client_whose_link_address_changes(fresh_lab: Lab) -> None:
    client, server = fresh_lab.client, fresh_lab.server
    with intercepting(server, capture="ebpf"), client.connect(server.ipv4) as connection:
        connection.sendall(request())
        assert KEY_AUTHORIZATION in connection.recv(4096).decode()
        change_link_address(client)
        connection.close()
        wait_until(lambda: not client.closing(), "the client's close is acknowledged")


def test_what_no_program_has_seen_begin_is_answered_too(lab: Lab) -> None:
    """A connection that is older than the capture, on which more is asked for."""
    for family in FAMILIES:
        with lab.client.connect(getattr(lab.server, family)) as connection, intercepting(lab.server, capture="ebpf"):
            connection.sendall(request())
            assert KEY_AUTHORIZATION in connection.recv(4096).decode()


def tracked(host: Host) -> int:
    return int(host.run("sysctl", "-n", "net.netfilter.nf_conntrack_count"))


def test_a_server_that_tracks_nothing_does_not_begin_to(fresh_lab: Lab) -> None:
    with intercepting(fresh_lab.server, capture="auto"):
        assert len(attached(fresh_lab.server)) >= 2
        assert body(ask(fresh_lab.client, fresh_lab.server.ipv4)) == KEY_AUTHORIZATION
        assert tracked(fresh_lab.server) == 0
    assert tracked(fresh_lab.server) == 0
