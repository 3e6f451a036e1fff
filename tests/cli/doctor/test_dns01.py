"""What the doctor says of dns-01: by a DNS of the laboratory's own, from its root on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import doctor
from lab.doctor import Report
from lab.hosts import Host
from lab.zones import zone
from tests.host.dns.world import AT_MACHINE, AT_PROVIDER, CHALLENGE, MACHINE, NAME, PROVIDER, World

WILDCARD = f"*.{NAME}"


@pytest.fixture
def world(pair: tuple[Host, Host], tmp_path: Path) -> World:
    return World(*pair, tmp_path)


def examine(world: World, *arguments: str) -> Report:
    with world.running():
        return doctor.examine(world.machine, *arguments)


def serve_here(world: World, more: str = "") -> None:
    world.delegate(server=f"ns.{NAME}.", glue=MACHINE)
    world.own.append(zone(NAME, AT_MACHINE + more))


def test_a_wildcard_is_looked_at_for_dns01_which_certbot_takes_for_it(world: World) -> None:
    serve_here(world)
    report = examine(world, WILDCARD, NAME)
    assert report.seen("DNS", "pass") == f"{CHALLENGE} is looked up at this machine: ns.{NAME} ({MACHINE})."
    assert f"{NAME} has A {MACHINE}" in report.seen("name")
    assert "nsd: xfrd listens on" in report.seen("listener", "pass")
    assert "Nothing listens on TCP port 80" in report.seen("listener", "warn")
    assert report.status == 0


def test_for_wildcards_alone_only_their_port_is_looked_at(world: World) -> None:
    serve_here(world)
    report = examine(world, "-d", WILDCARD)
    assert "(UDP)" in report.seen("listener", "pass")
    assert "port 80" not in report.seen("listener") + report.seen("firewall") + report.seen("capture")


def test_what_certbot_would_refuse_is_found_beforehand(world: World) -> None:
    world.delegate()
    world.provider.append(zone(NAME, AT_PROVIDER))
    report = examine(world, WILDCARD)
    assert report.seen("DNS", "fail") == (
        f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), not at this machine, so that its answer would not "
        f"be found. Add to the zone {NAME}, once: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )
    assert report.status == 1


def test_for_a_wildcard_issuewild_counts_if_it_is_there(world: World) -> None:
    serve_here(world, '@ 60 IN CAA 0 issue "ca.example.net"\n@ 60 IN CAA 0 issuewild ";"\n')
    report = examine(world, WILDCARD, NAME)
    failed = report.seen("CAA", "fail")
    assert failed.startswith(f"{WILDCARD}: CAA records of {NAME}: ")
    assert failed.endswith(". None allows dns-01. Add an issuewild record for your CA.")
    assert report.seen("CAA", "pass").startswith(f"{NAME}: CAA records of {NAME}: ")


def test_an_issue_record_for_other_methods_fails(world: World) -> None:
    serve_here(world, '@ 60 IN CAA 0 issue "ca.example.net; validationmethods=http-01"\n')
    assert "None allows dns-01. Add an issue record" in examine(world, WILDCARD).seen("CAA", "fail")


def test_for_dns01_the_port_is_53_over_both_transports(world: World) -> None:
    serve_here(world)
    report = examine(world, "--challenge", "dns-01", NAME)
    assert f"nsd: xfrd listens on {MACHINE}:53 (UDP)." in report.seen("listener", "pass")
    assert f"nsd: xfrd listens on {MACHINE}:53." in report.seen("listener", "pass")
    assert report.seen("DNS", "pass")
    assert not report.seen("name")


def test_where_nothing_has_port_53_certbot_receives_queries_itself(world: World) -> None:
    world.delegate()
    world.provider.append(zone(NAME, f"{AT_PROVIDER}_acme-challenge 60 IN NS {NAME}.\n"))
    report = examine(world, "--challenge", "dns-01", NAME)
    for transport in ("UDP", "TCP"):
        assert (
            f"Nothing listens on {transport} port 53 except on the loopback interface and no rule redirects its "
            "connections. Start the name server if there is one. Without one, Certbot accepts connections itself"
        ) in report.seen("listener", "warn")
    assert report.status == 0


def test_an_address_cannot_be_validated_by_dns01(world: World) -> None:
    report = examine(world, "--challenge", "dns-01", MACHINE)
    assert report.seen("DNS", "fail") == f"{MACHINE}: dns-01 cannot validate addresses. Use http-01."


REDIRECTIONS = {
    "iptables": ("iptables -t nat -A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5353",),
    "nft": (
        "nft add table ip d",
        "nft add chain ip d in { type nat hook prerouting priority -100; }",
        "nft add rule ip d in udp dport 53 redirect to :5353",
    ),
}
REFUSALS = {
    "iptables": ("iptables -A INPUT -p udp --dport 53 -j DROP",),
    "nft": (
        "nft add table ip d",
        "nft add chain ip d in { type filter hook input priority 0; }",
        "nft add rule ip d in udp dport 53 drop",
    ),
}


@pytest.mark.parametrize("program", REDIRECTIONS)
def test_a_rule_that_redirects_datagrams_alone_is_shown(lonely_host: Host, program: str) -> None:
    for command in REDIRECTIONS[program]:
        lonely_host.run(*command.split())
    report = doctor.examine(lonely_host, "--challenge", "dns-01")
    assert "A rule redirects datagrams to port 53: " in report.seen("listener", "pass")
    assert "Nothing listens on TCP port 53 and no rule" in report.seen("listener", "warn")
    assert "UDP" not in report.seen("listener", "warn")


@pytest.mark.parametrize("program", REFUSALS)
def test_a_rule_that_refuses_datagrams_alone_is_a_failure(lonely_host: Host, program: str) -> None:
    for command in REFUSALS[program]:
        lonely_host.run(*command.split())
    report = doctor.examine(lonely_host, "--challenge", "dns-01")
    assert "A rule refuses every datagram to port 53 over IPv4: " in report.seen("firewall", "fail")
    assert "No rule was found that refuses port 53 (" in report.seen("firewall", "pass")
    assert report.status == 1
    assert "datagram" not in doctor.examine(lonely_host, "--port", "53").seen("firewall")


def test_a_policy_that_drops_is_a_warning_for_each_transport_that_no_rule_names(lonely_host: Host) -> None:
    lonely_host.run("iptables", "-P", "INPUT", "DROP")
    lonely_host.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "53", "-j", "ACCEPT")
    report = doctor.examine(lonely_host, "--challenge", "dns-01")
    assert "no rule in their path names UDP port 53. Allow UDP port 53, unless" in report.seen("firewall", "warn")
    assert "a rule names port 53: iptables" in report.seen("firewall", "pass")
