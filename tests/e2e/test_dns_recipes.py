"""The recipes of docs/dns-01.md, as far as other tests do not follow them already."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from lab.certbot import Certbot
from lab.hosts import Host
from lab.interceptor import EBPF, VARIANTS
from lab.processes import running, wait_until
from lab.resolvers import RESOLVERS
from lab.zones import zone
from tests.e2e.test_resolvers import RESOLVER, certbot_by
from tests.e2e.test_servers import names
from tests.host.dns.world import AT_MACHINE, AT_PROVIDER, MACHINE, NAME, World

WILDCARD = f"*.{NAME}"
AT_ONCE = RESOLVERS[2]
"""Asks for the challenge at once, as Let's Encrypt's do."""
CAPTURES = pytest.mark.parametrize("capture", [*VARIANTS[:1], *EBPF])
DELEGATED = f"_acme-challenge 60 IN NS {NAME}.\n"


@pytest.fixture
def world(pair: tuple[Host, Host], tmp_path: Path) -> World:
    made = World(*pair, tmp_path / "world")
    made.internet.run("ip", "address", "add", f"{RESOLVER}/24", "dev", "eth0")
    return made


def issue(certbot: Certbot, capture: str) -> str:
    """Have a certificate issued, with a way to capture; return what is printed."""
    options = ("--preferred-challenges", "dns", f"--standalone-nfq-capture={capture}")
    result = certbot.certonly(NAME, WILDCARD, options=options)
    assert result.returncode == 0, result.stdout
    assert names(certbot.certificate(NAME)) == {NAME, WILDCARD}
    return result.stdout


@CAPTURES
@pytest.mark.parametrize("sign", [False, True], ids=["unsigned", "signed"])
def test_a_zone_with_a_further_name_server_delegates_the_challenge_to_this_one(
    world: World, tmp_path: Path, sign: bool, capture: str
) -> None:
    world.delegate(server=f"ns.{NAME}.", glue=MACHINE)
    world.delegate()
    made = zone(NAME, f"@ 60 IN NS ns.provider.com.\n{AT_MACHINE}{DELEGATED}")
    made = world.sign(made) if sign else made
    world.own.append(made)
    world.provider.append(made)
    with certbot_by(world, AT_ONCE, tmp_path) as certbot:
        assert "look-ups fail" not in issue(certbot, capture)


@CAPTURES
def test_a_resolver_for_the_home_stays_closed_to_the_internet(world: World, tmp_path: Path, capture: str) -> None:
    """dnsmasq, as Pi-hole runs it; the firewall drops queries from outside, and those for the challenge come first."""
    world.delegate()
    world.provider.append(zone(NAME, AT_PROVIDER + DELEGATED))
    options = ("--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts")
    here = (f"--listen-address={MACHINE}", "--bind-interfaces", "--server=127.0.0.53", f"--pid-file={tmp_path}/pid")
    with certbot_by(world, AT_ONCE, tmp_path) as certbot:
        for transport in ("udp", "tcp"):
            closed = ("-i", "eth0", "-p", transport, "--dport", "53", "-j", "DROP")
            world.machine.run("iptables", "-A", "INPUT", *closed)
        with running(world.machine.command("dnsmasq", *options, *here)) as dnsmasq:
            wait_until(functools.partial(world.machine.listens, 53), "dnsmasq listens")
            issue(certbot, capture)
            assert dnsmasq.poll() is None
        asked = world.internet.command("dig", f"@{MACHINE}", NAME, "+tries=1", "+time=1")
        with pytest.raises(RuntimeError, match="no servers could be reached"):
            world.internet.run(*asked[4:])
