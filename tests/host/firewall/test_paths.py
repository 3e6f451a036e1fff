"""What packets of a connection meet on their way from chain to chain: jumps with conditions, and sure refusals."""

from __future__ import annotations

import shlex

import pytest

from certbot_standalone_nfq.host.firewall import iptables_save, nft_json
from certbot_standalone_nfq.host.firewall.refusal import sure_refusal
from certbot_standalone_nfq.host.firewall.rules import Table, changing_answers, diverting, using_marks_of
from lab.hosts import Host

pytestmark = pytest.mark.anywhere

CONNECTION = 0x1000_0000


def by_iptables(host: Host, table: str, *rules: str) -> list[Table]:
    """Add rules to a table with the chains a and b, and return all tables as they are listed."""
    for command in ("-N a", "-N b", *rules):
        host.run("iptables", "-t", table, *shlex.split(command))
    return iptables_save.tables(host.run("iptables-save"), "iptables", 4)


def by_nft(host: Host, *rules: str, hook: str = "input") -> list[Table]:
    """Add rules, each with its chain: in, a or b."""
    base = f"add chain inet t in {{ type filter hook {hook} priority 0; }}"
    commands = ["add table inet t", base, "add chain inet t a", "add chain inet t b"]
    host.run("nft", "-f", "-", input="\n".join([*commands, *(f"add rule inet t {rule}" for rule in rules)]))
    return nft_json.tables(host.run("nft", "--json", "list", "ruleset"), without_iptables=False)


def meets(tables: list[Table]) -> bool:
    return any(rule.uses(0, 0, CONNECTION) for rule in using_marks_of(tables, 80))


@pytest.mark.parametrize(
    ("jumps", "met"),
    [
        (("-A INPUT -p udp -j a",), False),
        (("-A INPUT -p udp -g a",), False),
        (("-A INPUT -p tcp --dport 443 -j a",), False),
        (("-A INPUT -j b", "-A b -p udp -j a"), False),
        (("-A INPUT -p udp -j b", "-A b -j a"), False),
        (("-A INPUT -p udp -j a", "-A INPUT -p tcp -j a"), True),
        (("-A INPUT -p udp -j a", "-A OUTPUT -j a"), True),
        (("-A INPUT -s 192.0.2.1 -j a",), True),
        (("-A INPUT -p tcp --dport 80 -j b", "-A b -j a"), True),
        ((), True),
    ],
)
def test_marks_in_a_chain_of_iptables_matter_if_our_packets_get_there(
    lonely_host: Host, jumps: tuple[str, ...], met: bool
) -> None:
    assert meets(by_iptables(lonely_host, "mangle", *jumps, "-A a -j CONNMARK --restore-mark")) == met


@pytest.mark.parametrize(
    ("jumps", "met"),
    [
        (("in meta l4proto udp jump a",), False),
        (("in udp dport 53 goto a",), False),
        (("in tcp dport 443 jump a",), False),
        (("in meta l4proto vmap { udp : jump a, tcp : jump b }",), False),
        (("in tcp dport vmap { 443 : jump a, 80 : jump b }",), False),
        (("in jump b", "b ip protocol udp jump a"), False),
        (("in udp dport vmap { 53 : jump a }",), False),
        (("in meta l4proto vmap { udp : jump b, tcp : jump a }",), True),
        (("in tcp dport vmap { 443 : jump b, 80 : goto a }",), True),
        (("in meta l4proto != udp jump a",), True),
        (("in iifname vmap { lo : accept, eth0 : jump a }",), True),
        (("in ct state vmap { new : jump a }",), True),
        ((), True),
    ],
)
def test_marks_in_a_chain_of_nft_matter_if_our_packets_get_there(
    lonely_host: Host, jumps: tuple[str, ...], met: bool
) -> None:
    assert meets(by_nft(lonely_host, *jumps, "a meta mark set ct mark")) == met


PORT = "-p tcp --dport 80"


@pytest.mark.parametrize(
    ("rules", "sure"),
    [
        ((f"-A INPUT {PORT} -j DROP",), True),
        ((f"-A INPUT {PORT} -j REJECT --reject-with tcp-reset",), True),
        (("-A INPUT -p tcp -m multiport --dports 22,80 -m comment --comment 'no -s web' -j DROP",), True),
        ((f"-A INPUT {PORT} -m conntrack --ctstate NEW -j DROP",), True),
        ((f"-A PREROUTING {PORT} -j DROP",), True),
        (("-A INPUT -i lo -j ACCEPT", f"-A INPUT {PORT} -j DROP"), True),
        (("-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", f"-A INPUT {PORT} -j DROP"), True),
        (("-A INPUT -p tcp --dport 22 -j ACCEPT", "-A INPUT -p udp -j ACCEPT", f"-A INPUT {PORT} -j DROP"), True),
        (("-A INPUT -s 192.0.2.1 -j DROP", "-A INPUT -j MARK --set-mark 1", f"-A INPUT {PORT} -j DROP"), True),
        (("-A INPUT -j a", f"-A a {PORT} -j DROP"), True),
        ((f"-A INPUT {PORT} -j a", f"-A a {PORT} -j b", f"-A b {PORT} -j DROP"), True),
        (("-A INPUT -p tcp --dport 443 -j a", "-A a -j ACCEPT", f"-A INPUT {PORT} -j DROP"), True),
        ((f"-A INPUT {PORT} -j ACCEPT", f"-A INPUT {PORT} -j DROP"), False),
        (("-A INPUT -s 192.0.2.0/24 -j ACCEPT", f"-A INPUT {PORT} -j DROP"), False),
        (("-A INPUT -s 192.0.2.0/24 -j a", "-A a -j ACCEPT", f"-A INPUT {PORT} -j DROP"), False),
        (("-A INPUT -j a", "-A a -s 192.0.2.0/24 -j RETURN", f"-A a {PORT} -j DROP"), False),
        (("-A INPUT -s 192.0.2.1 -g a", f"-A INPUT {PORT} -j DROP"), False),
        (("-A INPUT -p tcp -j NFQUEUE --queue-num 1", f"-A INPUT {PORT} -j DROP"), False),
        ((f"-A INPUT {PORT} -s 192.0.2.1 -j DROP",), False),
        ((f"-A INPUT {PORT} ! -s 192.0.2.1 -j DROP",), False),
        ((f"-A INPUT -i eth1 {PORT} -j DROP",), False),
        ((f"-A INPUT -i lo {PORT} -j DROP",), False),
        ((f"-A INPUT {PORT} -m limit --limit 1/s -j DROP",), False),
        ((f"-A INPUT {PORT} -m conntrack --ctstate INVALID -j DROP",), False),
        ((f"-A INPUT {PORT} -m conntrack ! --ctstate NEW -j DROP",), False),
        (("-A INPUT -p tcp ! --dport 80 -j DROP",), False),
        (("-A INPUT -s 192.0.2.1 -j a", f"-A a {PORT} -j DROP"), False),
        ((f"-A a {PORT} -j DROP",), False),
        ((f"-A OUTPUT {PORT} -j DROP",), False),
        (("-A INPUT -p udp --dport 80 -j DROP",), False),
    ],
)
def test_a_rule_of_iptables_refuses_surely_if_it_and_its_path_have_no_conditions(
    lonely_host: Host, rules: tuple[str, ...], sure: bool
) -> None:
    table = "mangle" if "PREROUTING" in rules[0] else "filter"
    tables = by_iptables(lonely_host, table, *rules)
    assert any(sure_refusal(each, 80) for each in tables) == sure


@pytest.mark.parametrize(
    ("rules", "sure"),
    [
        (("in tcp dport 80 drop",), True),
        (("in tcp dport { 22, 80 } counter reject",), True),
        (("in iifname lo accept", "in ct state { established, related } accept", "in tcp dport 80 drop"), True),
        (("in ct state vmap { established : accept, invalid : drop }", "in tcp dport 80 drop"), True),
        (("in tcp dport vmap { 22 : accept, 80 : drop }",), True),
        (("in jump a", "a meta l4proto tcp ct state new tcp dport 80 drop"), True),
        (("in meta l4proto vmap { udp : accept }", "in tcp dport 80 drop"), True),
        (("in tcp dport 443 goto a", "in tcp dport 80 drop"), True),
        (("in ip saddr 192.0.2.1 accept", "in tcp dport 80 drop"), False),
        (("in ip saddr vmap { 192.0.2.1 : accept }", "in tcp dport 80 drop"), False),
        (("in ct state vmap { new : accept }", "in tcp dport 80 drop"), False),
        (("in ip saddr 192.0.2.1 goto a", "in tcp dport 80 drop"), False),
        (("in jump a", "a ip saddr 192.0.2.1 return", "a tcp dport 80 drop"), False),
        (("in iifname eth1 tcp dport 80 drop",), False),
        (("in tcp dport 80 limit rate over 1/second drop",), False),
        (("in tcp dport != 80 drop",), False),
        (("in ip saddr != 192.0.2.1 tcp dport 80 drop",), False),
        (("in udp dport 80 drop",), False),
        (("a tcp dport 80 drop",), False),
    ],
)
def test_a_rule_of_nft_refuses_surely_if_it_and_its_path_have_no_conditions(
    lonely_host: Host, rules: tuple[str, ...], sure: bool
) -> None:
    assert any(sure_refusal(table, 80) for table in by_nft(lonely_host, *rules)) == sure


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ((f"-A INPUT {PORT} -m conntrack --ctstate INVALID,UNTRACKED -j SYNPROXY --mss 1400",), (1, 0)),
        (("-A INPUT -p tcp --dport 443 -m conntrack --ctstate UNTRACKED -j SYNPROXY --mss 1400",), (0, 0)),
        ((f"-A INPUT {PORT} -j NFQUEUE --queue-num 7",), (0, 1)),
        (("-A INPUT -p tcp -j a", "-A a -s 192.0.2.1 -j NFQUEUE --queue-num 7"), (0, 1)),
        (("-A INPUT -p udp -j NFQUEUE --queue-num 7",), (0, 0)),
        (("-A OUTPUT -j NFQUEUE --queue-num 7",), (0, 0)),
        (
            (
                "-N CERTBOT-NFQ-28080-0f1e",
                "-A INPUT -j CERTBOT-NFQ-28080-0f1e",
                "-A CERTBOT-NFQ-28080-0f1e -j NFQUEUE --queue-num 28080",
            ),
            (0, 0),
        ),
    ],
)
def test_rules_are_told_that_may_be_the_reason_of_a_failure(
    lonely_host: Host, rules: tuple[str, ...], told: tuple[int, int]
) -> None:
    tables = by_iptables(lonely_host, "filter", *rules)
    assert (len(changing_answers(tables, 80)), len(diverting(tables, 80))) == told


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (("-A POSTROUTING -j MASQUERADE",), 0),
        (("-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080", "-A POSTROUTING -j MASQUERADE"), 1),
        (("-A INPUT -p tcp --dport 80 -j SNAT --to-source 192.0.2.1",), 1),
        (("-A INPUT -p udp -j SNAT --to-source 192.0.2.1",), 0),
    ],
)
def test_translations_of_sources_are_told_if_they_are_for_clients(
    lonely_host: Host, rules: tuple[str, ...], told: int
) -> None:
    assert len(changing_answers(by_iptables(lonely_host, "nat", *rules), 80)) == told


def test_what_nft_does_for_other_programs_is_told(lonely_host: Host) -> None:
    lonely_host.run("nft", "add table inet t")
    tables = by_nft(lonely_host, "in tcp dport 80 synproxy mss 1400", "a tcp dport 80 synproxy mss 1400")
    assert len(changing_answers(tables, 80)) == 1
