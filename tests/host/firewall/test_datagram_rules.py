"""Rules as datagrams meet them, which may be others than those that connections to the same port meet."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host.firewall.reader import Snapshot, take_snapshot
from certbot_standalone_nfq.host.firewall.refusal import sure_refusal
from certbot_standalone_nfq.host.firewall.rules import diverting, judge, translations, using_marks_of
from lab.hosts import Host

pytestmark = pytest.mark.anywhere

PORT = 53
NEITHER: tuple[Transport, ...] = ()
TCP, UDP = (Transport.TCP,), (Transport.UDP,)
BOTH = (*TCP, *UDP)


class Match(NamedTuple):
    """A condition in each program's words, and the transports whose packets to the port fulfil it."""

    iptables: str
    nft: str
    met_by: tuple[Transport, ...]


MATCHES = (
    Match("-p udp --dport 53", "udp dport 53", UDP),
    Match("-p tcp --dport 53", "tcp dport 53", TCP),
    Match("-p udp -m multiport --dports 53,853", "udp dport { 53, 853 }", UDP),
    Match("-p udp --dport 50:60", "meta l4proto udp th dport 50-60", UDP),
    Match("-p udp --dport 5353", "udp dport 5353", NEITHER),
    Match("-p udp --sport 53", "udp sport 53", NEITHER),
    Match("-p sctp --dport 53", "sctp dport 53", NEITHER),
    Match("-m conntrack --ctorigdstport 53", "meta l4proto { tcp, udp } th dport 53", BOTH),
)


def each_match() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("match", MATCHES, ids=lambda match: str(match.nft))


def with_rule(host: Host, program: str, match: Match, table: str, target: dict[str, str]) -> Snapshot:
    """Add a rule where packets come in, and return all rules."""
    if program == "nft":
        hook = "prerouting priority -100" if table == "nat" else "input priority 0"
        chain = f"add chain inet t c {{ type {table} hook {hook}; }}"
        host.run("nft", "-f", "-", input=f"add table inet t\n{chain}\nadd rule inet t c {match.nft} {target['nft']}\n")
    else:
        chain = "PREROUTING" if table == "nat" else "INPUT"
        host.run(program, "-t", table, "-A", chain, *match.iptables.split(), *target["iptables"].split())
    with host.inside():
        return take_snapshot()


@pytest.fixture(params=["iptables-nft", "iptables-legacy", "nft"])
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@each_match()
def test_what_redirects_datagrams_is_told_from_what_redirects_connections(
    lonely_host: Host, program: str, match: Match
) -> None:
    if "ctorigdstport" in match.iptables and program != "nft":
        match = match._replace(iptables="-p udp --dport 53", met_by=UDP)  # REDIRECT asks for a protocol
    target = {"iptables": "-j REDIRECT --to-ports 5353", "nft": "redirect to :5353"}
    snapshot = with_rule(lonely_host, program, match, "nat", target)
    for transport in Transport:
        found = translations(snapshot.over(transport), PORT, 4)
        assert bool(found) == (transport in match.met_by), transport


@each_match()
def test_what_refuses_datagrams_is_told_from_what_refuses_connections(
    lonely_host: Host, program: str, match: Match
) -> None:
    snapshot = with_rule(lonely_host, program, match, "filter", {"iptables": "-j DROP", "nft": "drop"})
    for transport in Transport:
        tables = snapshot.over(transport)
        refused = any(not judgement.open for table in tables for judgement in judge(table, PORT))
        assert refused == (transport in match.met_by), transport
        assert any(sure_refusal(table, PORT) for table in tables) == refused


def test_marks_on_datagrams_are_a_conflict_for_datagrams_alone(lonely_host: Host, program: str) -> None:
    target = {"iptables": "-j CONNMARK --set-mark 0x10000000", "nft": "ct mark set 0x10000000"}
    table = "filter" if program == "nft" else "mangle"
    snapshot = with_rule(lonely_host, program, Match("-p udp", "meta l4proto udp", UDP), table, target)
    for transport in Transport:
        rules = using_marks_of(snapshot.over(transport), PORT)
        assert any(rule.uses(0, 0x1000_0000) for rule in rules) == (transport is Transport.UDP)


@pytest.mark.parametrize("variant", ["iptables-nft", "iptables-legacy"])
def test_what_hands_datagrams_to_a_program_is_no_obstacle_to_connections(lonely_host: Host, variant: str) -> None:
    target = {"iptables": "-j NFQUEUE --queue-num 7"}
    snapshot = with_rule(lonely_host, variant, MATCHES[0], "filter", target)
    assert [len(diverting(snapshot.over(transport), PORT)) for transport in Transport] == [0, 1]
