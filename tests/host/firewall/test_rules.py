from __future__ import annotations

import json

import pytest

from certbot_standalone_nfq.host.firewall import iptables_save, nft_json
from certbot_standalone_nfq.host.firewall import rules as ruleset
from certbot_standalone_nfq.host.firewall.rules import Table, judge
from lab.hosts import Host

pytestmark = pytest.mark.anywhere


def saved(*rules: str, policy: str = "DROP", chains: tuple[str, ...] = (), table: str = "filter") -> Table:
    lines = [f"*{table}", f":INPUT {policy} [0:0]", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    lines += [f":{chain} - [0:0]" for chain in chains]
    (found,) = iptables_save.tables("\n".join([*lines, *rules, "COMMIT", ""]), "iptables", 4)
    return found


def verdicts(table: Table, port: int = 80) -> list[bool]:
    return [judgement.open for judgement in judge(table, port)]


def test_a_policy_that_accepts_needs_no_words() -> None:
    assert verdicts(saved(policy="ACCEPT")) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT",
        "-A INPUT -p tcp -m multiport --dports 22,80:90 -j ACCEPT",
        "-A INPUT -m conntrack --ctorigdstport 80 -j ACCEPT",
        "-A INPUT -j ACCEPT",
        '-A INPUT -p tcp -m comment --comment "all of it, it\'s fine" -j ACCEPT',
    ],
)
def test_a_policy_that_drops_is_no_obstacle_if_a_rule_accepts_the_port(rule: str) -> None:
    assert False not in verdicts(saved(rule))


@pytest.mark.parametrize(
    "rule",
    [
        "-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT",
        "-A INPUT -p udp -m udp --dport 80 -j ACCEPT",
        "-A INPUT -p tcp -m tcp ! --dport 80 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --sport 80 -j ACCEPT",
        "-A INPUT -i lo -j ACCEPT",
        "-A OUTPUT -p tcp -m tcp --dport 80 -j ACCEPT",
        "-A nowhere -p tcp -m tcp --dport 80 -j ACCEPT",
        '-A INPUT -m comment --comment "an unclosed \\" quote -j ACCEPT',
    ],
)
def test_a_policy_that_drops_is_one_if_no_rule_that_is_come_by_accepts_the_port(rule: str) -> None:
    assert verdicts(saved(rule, chains=("nowhere",))) == [False]


def test_a_chain_that_every_packet_comes_by_may_have_the_last_word() -> None:
    for effect, expected in (("ACCEPT", []), ("DROP", [False])):
        rules = ("-A INPUT -j a", f"-A a -p tcp -j {effect}", "-A a -j INPUT")
        assert verdicts(saved(*rules, policy="ACCEPT" if expected else "DROP", chains=("a",))) == expected


def test_a_chain_that_only_some_come_by_has_not() -> None:
    rules = ("-A INPUT -s 203.0.113.1/32 -j a", "-A a -j ACCEPT")
    assert verdicts(saved(*rules, chains=("a",))) == [False]


def test_a_port_may_be_admitted_by_a_chain_of_its_own() -> None:
    rules = ("-A INPUT -p tcp -m tcp --dport 80 -j limit", "-A limit -m limit --limit 3/min -j ACCEPT")
    assert verdicts(saved(*rules, chains=("limit",))) == [True]


def test_rules_are_followed_through_chains_even_in_circles() -> None:
    jumps = ("-A INPUT -j a", "-A a -g b", "-A b -j a", "-A b -p tcp -m tcp --dport 80 -j ACCEPT")
    assert verdicts(saved(*jumps, chains=("a", "b"))) == [True]


def test_a_last_rule_that_refuses_everything_is_as_good_as_a_policy() -> None:
    reject = "-A INPUT -j REJECT --reject-with icmp-host-prohibited"
    assert verdicts(saved(reject, policy="ACCEPT")) == [False]
    assert verdicts(saved("-A INPUT -p tcp --dport 80 -j ACCEPT", reject, policy="ACCEPT")) == [True]
    assert verdicts(saved("-A INPUT -s 203.0.113.1/32 -j DROP", policy="ACCEPT")) == []


def test_a_rule_that_refuses_the_port_is_told_whatever_else_it_asks_for() -> None:
    rule = "-A INPUT -s 203.0.113.1/32 -p tcp -m tcp --dport 80 -j DROP"
    (judgement,) = judge(saved(rule, policy="ACCEPT"), 80)
    assert judgement.seen == f"A rule refuses port 80: iptables -t filter {rule}"


def test_a_container_port_is_found_behind_a_jump() -> None:
    rules = (
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-A DOCKER -p tcp --dport 80 -j DNAT --to 1.2.3.4:1",
    )
    table = saved(*rules, policy="ACCEPT", chains=("DOCKER",), table="nat")
    assert len(ruleset.translations([table], 80, 4)) == 1
    assert ruleset.translations([table], 80, 6) == []
    assert ruleset.translations([table], 81, 4) == []


def test_queues_without_bypass_are_told() -> None:
    rules = [f"-A INPUT -j NFQUEUE {option}" for option in ("--queue-num 5", "--queue-balance 1:3", "")]
    assert [rule.queues for rule in saved(*rules).rules] == [(5, 5), (1, 3), (0, 0)]
    assert saved("-A INPUT -j NFQUEUE --queue-num 5 --queue-bypass").rules[0].queues is None


RULESET = """
table inet f {
    set open { type inet_service; flags interval; elements = { 79-81 comment "web", 443 }; }
    chain in { type filter hook input priority 0; policy drop; ct state established accept; jump more; }
    chain more { %s; }
}
"""


def listed(host: Host, text: str) -> list[Table]:
    host.run("nft", "-f", "-", input=text)
    return nft_json.tables(host.run("nft", "--json", "list", "ruleset"), without_iptables=True)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("tcp dport 80 accept", True),
        ("tcp dport { 22, 80-90 } counter accept", True),
        ("tcp dport @open accept", True),
        ("tcp dport vmap { 22 : drop, 80 : accept }", True),
        ("th dport 80 accept", True),
        ("meta l4proto tcp ct original proto-dst 80 accept", True),
        ("meta l4proto { tcp, udp } th dport 80 accept", True),
        ("meta l4proto udp th dport 80 accept", False),
        ("tcp dport != 80 accept", False),
        ("udp dport 80 accept", False),
        ("tcp sport 80 accept", False),
        ("tcp dport 8080 log accept", False),
        ("iifname lo accept", False),
    ],
)
def test_nft_rules_are_read_as_nft_lists_them(lonely_host: Host, rule: str, expected: bool) -> None:
    (table,) = listed(lonely_host, RULESET % rule)
    assert verdicts(table) == [expected]


def test_an_nft_rule_for_all_of_tcp_has_the_last_word(lonely_host: Host) -> None:
    (table,) = listed(lonely_host, RULESET % "meta l4proto tcp counter accept")
    assert verdicts(table) == []


def test_nft_chains_that_do_not_concern_us_are_left_out(lonely_host: Host) -> None:
    chain = "chain c { type filter hook %s priority 0; policy drop; %s drop; };"
    arp, output = chain % ("input", "arp operation reply"), chain % ("output", "tcp dport 80")
    (table,) = listed(lonely_host, f"table arp a {{ {arp} }}\ntable inet o {{ {output} }}")
    assert table.name == "table inet o of nft"
    assert verdicts(table) == []


def test_what_iptables_put_into_nft_is_left_to_iptables(lonely_host: Host) -> None:
    lonely_host.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
    assert listed(lonely_host, "") == []


def test_nft_queues_without_bypass_are_told() -> None:
    """As in libnftables-json(5): the kernel at hand has no nft_queue."""
    key = {"family": "ip", "table": "q"}
    chain = {**key, "name": "c", "type": "filter", "hook": "input", "policy": "accept"}
    queues = [{"num": 5}, {"num": {"range": [1, 3]}}, {"num": 5, "flags": "bypass"}, {"num": 5, "flags": ["bypass"]}]
    rules = [{"rule": {**key, "chain": "c", "expr": [{"queue": queue}]}} for queue in queues]
    (table,) = nft_json.tables(json.dumps({"nftables": [{"chain": chain}, *rules]}), without_iptables=True)
    assert [rule.queues for rule in table.rules] == [(5, 5), (1, 3), None, None]
