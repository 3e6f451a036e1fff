from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import candidates
from certbot_standalone_nfq.capture.nfqueue.netlink_client import NetlinkQueue
from certbot_standalone_nfq.capture.nfqueue.queue import FOR_CHALLENGES
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from lab import doctor
from lab.dns import Dns
from lab.doctor import NAME
from lab.hosts import Host
from lab.interceptor import intercepting
from lab.nginx import nginx
from lab.processes import running

_UNTRACKED = "-m conntrack --ctstate INVALID,UNTRACKED"


def test_where_nothing_listens_it_warns_as_certbot_will(lonely_host: Host) -> None:
    report = doctor.examine(lonely_host)
    assert report.status == 0
    assert "Nothing listens on TCP port 80 and no rule" in report.seen("listener", "warn")


def test_the_port_may_be_another(pair: tuple[Host, Host], tmp_path: Path) -> None:
    with nginx(pair[1], tmp_path / "nginx", port=8080):
        assert "nginx listens on 0.0.0.0:8080" in doctor.examine(pair[1], "--port", "8080").seen("listener", "pass")
        assert "Nothing listens on TCP port 80" in doctor.examine(pair[1]).seen("listener", "warn")


def test_of_a_server_on_any_ipv6_address_it_does_not_claim_to_know_about_ipv4(
    pair: tuple[Host, Host], named: Dns, tmp_path: Path
) -> None:
    server = pair[1]
    named.address(NAME, server.ipv4)
    with nginx(server, tmp_path / "nginx", listen="listen [::]:80 ipv6only=off;"):
        report = doctor.examine(server, NAME)
    assert report.bad == []
    assert "on IPv4 unless it accepts IPv6 only" in report.seen("listener")
    assert "which is served unless the program on [::] accepts IPv6 only" in report.seen("name")


def test_a_server_that_only_this_machine_reaches_does_not_count(pair: tuple[Host, Host], tmp_path: Path) -> None:
    with nginx(pair[1], tmp_path / "nginx", listen="listen 127.0.0.1:80;"):
        report = doctor.examine(pair[1])
    assert "except on the loopback interface" in report.seen("listener", "warn")


def test_a_published_container_port_counts_as_listening(lonely_host: Host) -> None:
    destination = ("-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "198.51.101.2:8080")
    lonely_host.run("iptables", "-t", "nat", "-A", "PREROUTING", *destination)
    lonely_host.run("iptables", "-P", "INPUT", "DROP")  # which what is led elsewhere does not come by
    report = doctor.examine(lonely_host)
    assert report.status == 0
    assert report.seen("firewall", "warn") == ""
    assert "DNAT --to-destination 198.51.101.2:8080" in report.seen("listener", "pass")


def test_a_port_that_nft_redirects_counts_as_listening(lonely_host: Host) -> None:
    lonely_host.run("nft", "add table inet web; add chain inet web in { type nat hook prerouting priority -100; }")
    lonely_host.run("nft", "add rule inet web in tcp dport { 80, 81 } redirect to :8080")
    report = doctor.examine(lonely_host)
    assert report.status == 0
    assert "nft table inet web, chain in" in report.seen("listener", "pass")


def test_a_policy_that_drops_is_a_warning_unless_a_rule_names_the_port(server: Host) -> None:
    server.run("iptables", "-P", "INPUT", "DROP")
    seen = doctor.examine(server).seen("firewall", "warn")
    assert "The policy of INPUT in table filter of iptables is DROP" in seen
    assert "no rule in their path names port 80" in seen
    server.run("iptables", "-A", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "443,80", "-j", "ACCEPT")
    report = doctor.examine(server)
    assert report.seen("firewall", "warn") == ""
    assert "--dports 443,80 -j ACCEPT" in report.seen("firewall", "pass")


def test_a_rule_that_refuses_the_port_is_shown(server: Host) -> None:
    server.run("ip6tables", "-N", "web")
    server.run("ip6tables", "-A", "INPUT", "-j", "web")
    server.run("ip6tables", "-A", "web", "-p", "tcp", "--dport", "1:1023", "-j", "REJECT")
    assert "ip6tables -t filter -A web" in doctor.examine(server).seen("firewall", "warn")


def test_a_rule_that_refuses_every_connection_is_a_failure(server: Host) -> None:
    server.run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    server.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
    report = doctor.examine(server)
    assert report.status == 1
    assert "every connection to port 80 over IPv4: iptables -t filter -A INPUT" in report.seen("firewall", "fail")
    assert "refuses port" not in report.seen("firewall", "warn") + report.seen("firewall", "pass")


def test_a_rule_that_refuses_every_connection_over_ipv6_alone_is_a_warning(server: Host) -> None:
    server.run("nft", "add table ip6 f; add chain ip6 f in { type filter hook input priority 0; }")
    server.run("nft", "add rule ip6 f in tcp dport 80 reject")
    report = doctor.examine(server)
    assert report.status == 0
    assert "every connection to port 80 over IPv6: nft table ip6 f" in report.seen("firewall", "warn")


@pytest.mark.parametrize("condition", ["-s 198.51.100.0/24", "! -s 198.51.100.0/24"])
def test_a_rule_that_refuses_some_connections_is_a_warning(server: Host, condition: str) -> None:
    server.run("iptables", "-A", "INPUT", *condition.split(), "-p", "tcp", "--dport", "80", "-j", "DROP")
    report = doctor.examine(server)
    assert report.status == 0
    assert "A rule refuses port 80: iptables -t filter -A INPUT" in report.seen("firewall", "warn")


@pytest.mark.parametrize("program", ["iptables", "nft"])
def test_handshakes_that_are_completed_ahead_of_the_server_are_no_obstacle(server: Host, program: str) -> None:
    if program == "nft":
        server.run("nft", "add table inet f; add chain inet f in { type filter hook input priority 0; }")
        server.run("nft", "add rule inet f in tcp dport 80 ct state invalid,untracked synproxy mss 1400 wscale 7")
    else:
        server.run("iptables", "-A", "INPUT", *f"-p tcp --dport 80 {_UNTRACKED} -j SYNPROXY --mss 1400".split())
    report = doctor.examine(server)
    assert report.status == 0
    assert "SYNPROXY completes handshakes ahead of the server" in report.seen("firewall", "pass")


def test_an_nft_chain_that_drops_is_a_warning_unless_its_set_names_the_port(server: Host) -> None:
    server.run("nft", "add table inet f; add set inet f open { type inet_service; }")
    server.run("nft", "add chain inet f in { type filter hook input priority 0; policy drop; }")
    server.run("nft", "add rule inet f in ip6 nexthdr icmpv6 accept; add rule inet f in tcp dport @open accept")
    assert "The policy of in in table inet f of nft is DROP" in doctor.examine(server).seen("firewall", "warn")
    server.run("nft", "add element inet f open { 80 }")
    report = doctor.examine(server)
    assert report.seen("firewall", "warn") == ""
    assert "a rule names port 80: nft table inet f" in report.seen("firewall", "pass")


def test_a_leftover_of_a_dead_run_is_shown_and_left(server: Host) -> None:
    allocation = candidates(Http01Solver.selectors(80))[0]
    read_end, write_end = os.pipe()
    with server.inside():
        IptablesWriter().install(allocation, write_end)
    os.close(read_end)
    os.close(write_end)
    before = server.rules()
    report = doctor.examine(server)
    assert "An interrupted run of this plugin left rules behind (queue 28080" in report.seen("queues", "warn")
    assert report.status == 0
    assert server.rules() == before


def test_a_run_under_way_is_told_from_a_dead_one_and_left_alone(server: Host) -> None:
    with intercepting(server):
        before = server.rules()
        report = doctor.examine(server)
        assert server.rules() == before
    assert "A run of this plugin is under way (queue 28080)" in report.seen("queues", "warn")


def test_other_queues_are_shown_and_rules_to_queues_without_a_listener(server: Host) -> None:
    with server.inside():
        queue = NetlinkQueue(7, FOR_CHALLENGES)
    server.run("iptables", "-A", "INPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "7")
    with contextlib.closing(queue):
        report = doctor.examine(server)
    assert "Other programs listen to packet queues: 7." in report.seen("queues", "pass")
    assert report.seen("queues", "warn") == ""
    assert "queue without a listener, which drops them" in doctor.examine(server).seen("queues", "warn")


def test_another_acme_client_of_this_host_is_shown(server: Host, pair: tuple[Host, Host], tmp_path: Path) -> None:
    client = tmp_path / "acme.sh"
    client.write_text("read -r forever\n")
    with server.inside(), running(["/bin/sh", str(client)], stdin=subprocess.PIPE) as process:
        report = doctor.examine(server)
        assert doctor.examine(pair[0]).seen("clients", "warn") == ""
    assert f"acme.sh (process {process.pid})" in report.seen("clients", "warn")
