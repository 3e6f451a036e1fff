"""Failures of dns-01, made in the laboratory: what Certbot's user is told, and what it refuses beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.certbot import Certbot
from lab.hosts import Host
from lab.interceptor import EBPF
from lab.resolvers import RESOLVERS
from lab.zones import zone
from tests.e2e.test_resolvers import certbot_by
from tests.host.dns.world import AT_MACHINE, AT_PROVIDER, CHALLENGE, MACHINE, NAME, PROVIDER, World

RESOLVER = "198.51.100.12"
DEFAULT = RESOLVERS[0]
AT_ONCE = RESOLVERS[2]
"""Asks for the challenge at once, as Let's Encrypt's do."""
WILDCARD = f"*.{NAME}"


@pytest.fixture
def world(pair: tuple[Host, Host], tmp_path: Path) -> World:
    made = World(*pair, tmp_path / "world")
    made.internet.run("ip", "address", "add", f"{RESOLVER}/24", "dev", "eth0")
    return made


BY_RULES = "--standalone-nfq-capture=iptables"
"""Behind other programs' rules in the raw table, which eBPF is ahead of."""
CAPTURES = pytest.mark.parametrize("capture", [(), *((f"--standalone-nfq-capture={each}",) for each in EBPF)])


def serve_here(world: World, *, sign: bool = False, more: str = "") -> None:
    world.delegate(server=f"ns.{NAME}.", glue=MACHINE)
    made = zone(NAME, AT_MACHINE + more)
    world.own.append(world.sign(made) if sign else made)


def told(certbot: Certbot, *options: str) -> str:
    """Let it fail, and return what is printed, on one line."""
    result = certbot.certonly(WILDCARD, options=options)
    assert result.returncode == 1, result.stdout
    return " ".join(result.stdout.split())


@CAPTURES
def test_name_servers_elsewhere_end_it_before_a_rule_stands_with_the_record_to_add(
    world: World, tmp_path: Path, capture: tuple[str, ...]
) -> None:
    world.delegate()
    world.provider.append(zone(NAME, AT_PROVIDER))
    with certbot_by(world, DEFAULT, tmp_path) as certbot:
        assert (
            f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), not at this machine, so that its answer would "
            f"not be found. Add to the zone {NAME}, once: '{CHALLENGE}. 3600 IN NS {NAME}.'"
        ) in told(certbot, *capture)
        assert "are captured by" not in certbot.log


def test_queries_that_are_dropped_ahead_of_our_rules_are_told(world: World, tmp_path: Path) -> None:
    serve_here(world)
    with certbot_by(world, AT_ONCE, tmp_path) as certbot:
        world.machine.run("iptables", "-t", "raw", "-A", "PREROUTING", "-i", "eth0", "-p", "udp", "-j", "DROP")
        said = told(certbot, BY_RULES)
        assert f" for {CHALLENGE} arrived at this machine (from 198.51.100.1" in said
        assert "but did not reach this plugin. Something on this machine takes them first" in said


def test_resolvers_that_ask_for_other_records_first_show_that_the_name_leads_here(world: World, tmp_path: Path) -> None:
    serve_here(world)
    with certbot_by(world, DEFAULT, tmp_path) as certbot:
        world.machine.run("iptables", "-t", "raw", "-A", "PREROUTING", "-i", "eth0", "-p", "udp", "-j", "DROP")
        assert f"TXT records of {CHALLENGE} arrived here, although queries for its A records did." in told(
            certbot, BY_RULES
        )


@CAPTURES
def test_where_no_query_comes_the_ways_to_this_machine_are_named(
    world: World, tmp_path: Path, capture: tuple[str, ...]
) -> None:
    serve_here(world)
    with certbot_by(world, DEFAULT, tmp_path) as certbot:
        for transport in ("udp", "tcp"):
            blocked = ("-d", MACHINE, "-p", transport, "--dport", "53", "-j", "DROP")
            world.internet.run("iptables", "-A", "OUTPUT", *blocked)
        assert (
            f"{NAME}: no query for the TXT records of {CHALLENGE} arrived here. Check that {CHALLENGE} is delegated to "
            "this machine (NS), that its name server has this machine's address, and that nothing on the way blocks "
            "port 53, over UDP and TCP."
        ) in told(certbot, *capture)


@CAPTURES
def test_answers_that_are_refused_as_they_are_not_signed_are_told(
    world: World, tmp_path: Path, capture: tuple[str, ...]
) -> None:
    """What Certbot sees beforehand, unless its machine can look up nothing."""
    serve_here(world, sign=True)
    with certbot_by(world, DEFAULT, tmp_path) as certbot:
        world.machine.run("iptables", "-A", "OUTPUT", "-d", "127.0.0.53", "-p", "udp", "-j", "DROP")
        said = told(certbot, *capture)
        nothing = "no usable answer from 127.0.0.53 (Operation not permitted)"
        assert f"Where {CHALLENGE} is looked up is not known: {nothing}." in said
        assert f"for {CHALLENGE} arrived (from 198.51.100.1" in said
        assert "but the CA's resolver refused the answers. The zone is signed (DNSSEC)" in said
