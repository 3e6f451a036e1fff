from __future__ import annotations

import json
import shlex
from typing import Any

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


def test_queues_are_told_and_whether_packets_pass_by_them() -> None:
    rules = [f"-A INPUT -j NFQUEUE {option}" for option in ("--queue-num 5", "--queue-balance 1:3", "")]
    assert [rule.queues for rule in saved(*rules).rules] == [(5, 5), (1, 3), (0, 0)]
    assert not any(rule.bypass for rule in saved(*rules).rules)
    (rule,) = saved("-A INPUT -j NFQUEUE --queue-num 5 --queue-bypass").rules
    assert (rule.queues, rule.bypass) == ((5, 5), True)


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


def nft_rules(*statements: list[dict[str, Any]]) -> tuple[ruleset.Rule, ...]:
    key = {"family": "ip", "table": "q"}
    chain = {**key, "name": "c", "type": "filter", "hook": "input", "policy": "accept"}
    rules = [{"rule": {**key, "chain": "c", "expr": each}} for each in statements]
    (table,) = nft_json.tables(json.dumps({"nftables": [{"chain": chain}, *rules]}), without_iptables=True)
    return table.rules


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


def test_nft_chains_that_do_not_concern_us_have_no_say(lonely_host: Host) -> None:
    chain = "chain c { type filter hook %s priority 0; policy drop; %s drop; };"
    arp, output = chain % ("input", "arp operation reply"), chain % ("output", "tcp dport 80")
    other, table = listed(lonely_host, f"table arp a {{ {arp} }}\ntable inet o {{ {output} }}")
    assert other.versions == frozenset()
    assert table.name == "table inet o of nft"
    assert verdicts(table) == []


def test_what_iptables_put_into_nft_is_left_to_iptables(lonely_host: Host) -> None:
    lonely_host.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
    assert listed(lonely_host, "") == []


def test_nft_queues_are_told_and_whether_packets_pass_by_them() -> None:
    """As in libnftables-json(5): the kernel at hand has no nft_queue."""
    queues = [{"num": 5}, {"num": {"range": [1, 3]}}, {"num": 5, "flags": "bypass"}, {"num": 5, "flags": ["bypass"]}]
    rules = nft_rules(*([{"queue": queue}] for queue in queues))
    assert [rule.queues for rule in rules] == [(5, 5), (1, 3), (5, 5), (5, 5)]
    assert [rule.bypass for rule in rules] == [False, False, True, True]


def test_nft_queues_of_other_protocols_are_told_and_no_more_of_their_rules() -> None:
    udp = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}}
    port = {"match": {"op": "==", "left": {"payload": {"protocol": "th", "field": "dport"}}, "right": 80}}
    (rule,) = nft_rules([udp, port, {"queue": {"num": 5}}])
    assert (rule.queues, rule.ports) == ((5, 5), ())


def test_numbers_of_nft_queues_that_are_computed_are_not_known() -> None:
    (rule,) = nft_rules([{"queue": {"num": {"numgen": {"mode": "inc", "mod": 2, "offset": 0}}}}])
    assert rule.queues is None


QUEUE, MARKS, CONNECTION = 28080, 0x30000000, 0x10000000


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def iptables_rules(host: Host, variant: str, rule: str) -> list[ruleset.Rule]:
    host.run(variant, *rule.split())
    tables = iptables_save.tables(host.run(f"{variant}-save"), "iptables", 4)
    return [rule for table in tables for rule in table.rules]


@pytest.mark.parametrize(
    "rule",
    [
        "-t mangle -A PREROUTING -j MARK --set-mark 0x10000000",
        "-t mangle -A FORWARD -j CONNMARK --set-xmark 0x20000000/0x20000000",
        "-t filter -A INPUT -m mark --mark 0x30000000/0xf0000000 -j DROP",
        "-t filter -A INPUT -m connmark --mark 0xffffffff -j DROP",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-num 28080",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-balance 28000:28100",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-num 28080 --queue-bypass",
    ],
)
def test_a_rule_of_iptables_that_uses_a_mark_or_a_queue_is_told(lonely_host: Host, variant: str, rule: str) -> None:
    (found,) = iptables_rules(lonely_host, variant, rule)
    assert found.uses(QUEUE, MARKS)
    assert found.text.startswith("iptables -t ")


@pytest.mark.parametrize(
    "rule",
    [
        "-t mangle -A PREROUTING -j CONNMARK --restore-mark",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xf0000000",
        "-t mangle -A PREROUTING -j CONNMARK --set-mark 1",
        "-t mangle -A PREROUTING -m connmark --mark 1 -j ACCEPT",
        "-t mangle -A PREROUTING -m connmark ! --mark 0/0xf0000000 -j DROP",
    ],
)
def test_a_rule_of_iptables_that_copies_or_compares_bits_of_connections_uses_these_alone(
    lonely_host: Host, variant: str, rule: str
) -> None:
    (found,) = iptables_rules(lonely_host, variant, rule)
    assert found.uses(QUEUE, MARKS, CONNECTION)
    assert not found.uses(QUEUE, MARKS)


@pytest.mark.parametrize(
    "rule",
    [
        "-t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
        "-t mangle -A PREROUTING -j CONNMARK --set-mark 1/0xff",
        "-t mangle -A PREROUTING -m connmark --mark 1/0xff -j ACCEPT",
        "-t mangle -A PREROUTING -j MARK --set-mark 0x1",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-num 0",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-balance 0:3",
        "-t filter -A INPUT -m comment --comment 280 -j ACCEPT",
    ],
)
def test_a_rule_of_iptables_that_leaves_our_bits_alone_is_none(lonely_host: Host, variant: str, rule: str) -> None:
    (found,) = iptables_rules(lonely_host, variant, rule)
    assert not found.uses(QUEUE, MARKS, CONNECTION)


NAMED_MARKS = "table inet t { set marks { type mark; elements = { 0x1, 0x20000000 }; }; chain c { %s; }; }"


@pytest.mark.parametrize(
    ("rule", "used"),
    [
        ("udp dport 53 meta mark set 0x10000000", True),
        ("meta mark & 0xf0000000 == 0x30000000 drop", True),
        ("meta mark & 0xf0000001 == 0x30000000 drop", True),
        ("ct mark set ct mark or 0x20000000", True),
        ("meta mark { 0x1, 0x20000000 } drop", True),
        ("meta mark @marks drop", True),
        ("meta mark vmap { 0x1 : accept, 0x20000000 : drop }", True),
        ("meta mark set tcp dport map { 80 : 0x10000000 }", True),
        ("meta mark set meta mark & 0xcfffffff | 0x10000000", True),
        ("meta l4proto udp meta mark set 0x10000000", True),
        ("meta mark set ct mark", True),
        ("meta mark set ct mark & 0x10000000", True),
        ("ct mark set meta mark", True),
        ("ct mark set 0x00000f41", True),
        ("ct mark 0x1 accept", True),
        ("ct mark != 0x1 accept", True),
        ("ct mark { 0x1, 0x2 } accept", True),
        ("ct mark vmap { 0x1 : accept }", True),
        ("ct mark & 0x10000000 == 0x0 accept", True),
        ("ct mark set ct mark & 0xcfffffff", True),
        ("ct mark set ct mark & 0xcfffffff | 0x1", True),
        ("meta mark set 0x6d6f6c65", True),
        ("ct mark set ct mark or 0x1", False),
        ("ct mark set ct mark & 0xfffffff0", False),
        ("ct mark set ct mark & 0xffffff00 | 0x41", False),
        ("ct mark & 0xff == 0x41 accept", False),
        ("meta mark set ct mark & 0xff", False),
        ("meta mark set meta mark & 0xcfffffff", False),
        ("meta mark set 0x1", False),
        ("meta mark & 0xf0000000 == 0x40000000 drop", False),
        ("tcp dport 80 accept", False),
        ('accept comment "mark 28080"', False),
    ],
)
def test_a_rule_of_nft_that_sets_or_asks_for_a_mark_is_told(lonely_host: Host, rule: str, used: bool) -> None:
    (table,) = listed(lonely_host, NAMED_MARKS % rule)
    assert any(found.uses(QUEUE, MARKS, CONNECTION) for found in table.rules) == used


def test_a_rule_of_nft_in_a_family_other_than_ip_is_told_too(lonely_host: Host) -> None:
    (table,) = listed(lonely_host, "table bridge b { chain c { meta mark set 0x10000000; }; }")
    assert [rule.text for rule in table.rules if rule.uses(QUEUE, MARKS)] == ["nft table bridge b, chain c, handle 2"]


def test_the_length_of_a_prefix_is_no_mark(lonely_host: Host) -> None:
    (table,) = listed(lonely_host, NAMED_MARKS % "meta mark & 0xf0000000 == 0x30000000 drop")
    assert not any(found.uses(QUEUE, 0x4) for found in table.rules)


@pytest.mark.parametrize(
    ("queue", "used"),
    [
        ({"num": 28080, "flags": "bypass"}, True),
        ({"num": {"range": [28000, 28100]}}, True),
        ({"num": {"range": [1, 3]}, "flags": ["bypass", "fanout"]}, False),
        ({"num": 0}, False),
        (None, False),
    ],
)
def test_a_rule_of_nft_that_feeds_our_queue_is_told(queue: dict[str, object] | None, used: bool) -> None:
    """As in libnftables-json(5): the kernel at hand has no nft_queue."""
    udp = {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 5}}
    (rule,) = nft_rules([udp, {"queue": queue}])
    assert rule.uses(QUEUE, MARKS) == used


def meeting(tables: list[Table], port: int) -> int:
    """Return how many rules use marks of ours on what may be packets of connections to a port."""
    return sum(rule.uses(QUEUE, MARKS, CONNECTION) for rule in ruleset.using_marks_of(tables, port))


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("-p udp", False),
        ("-p udp -m comment --comment 'wg-quick(8) rule for wg0'", False),
        ("-p icmp", False),
        ("-p 132", False),
        ("! -p tcp", False),
        ("-p tcp --dport 443", False),
        ("-p tcp -m multiport --dports 22,443", False),
        ("", True),
        ("-p tcp", True),
        ("! -p udp", True),
        ("-p tcp --dport 80", True),
        ("-p tcp --dport 1:100", True),
        ("-p tcp ! --dport 443", True),
        ("-p tcp --dport 8080", True),
        ("-p tcp --dport 443:40000", True),
        ("-p tcp --sport 443", True),
    ],
)
@pytest.mark.parametrize("target", ["CONNMARK --restore-mark", "MARK --set-mark 0x10000000"])
def test_marks_of_packets_that_cannot_be_ours_are_no_conflict(
    lonely_host: Host, variant: str, condition: str, met: bool, target: str
) -> None:
    lonely_host.run(variant, "-t", "mangle", "-A", "PREROUTING", *shlex.split(condition), "-j", *target.split())
    assert meeting(iptables_save.tables(lonely_host.run(f"{variant}-save"), "iptables", 4), 80) == met


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("udp dport 53", False),
        ("meta l4proto udp", False),
        ("meta l4proto { udp, icmp }", False),
        ("meta l4proto != tcp", False),
        ("ip protocol udp", False),
        ("ip6 nexthdr udp", False),
        ("icmp type echo-request", False),
        ("tcp dport 443", False),
        ("tcp dport { 22, 443 }", False),
        ("", True),
        ("meta l4proto tcp", True),
        ("meta l4proto { tcp, udp }", True),
        ("meta l4proto != udp", True),
        ("tcp dport 80", True),
        ("tcp dport != 443", True),
        ("tcp dport 8080", True),
        ("th dport 53 ip saddr 192.0.2.1", False),
    ],
)
@pytest.mark.parametrize("statement", ["meta mark set 0x10000000", "meta mark set ct mark", "ct mark set meta mark"])
def test_marks_that_nft_sets_on_packets_that_cannot_be_ours_are_no_conflict(
    lonely_host: Host, condition: str, met: bool, statement: str
) -> None:
    assert meeting(listed(lonely_host, NAMED_MARKS % f"{condition} {statement}"), 80) == met


def test_ports_that_ours_is_translated_to_may_be_met(lonely_host: Host) -> None:
    redirect, restore = "PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 81", "INPUT -p tcp --dport 81 -j CONNMARK"
    lonely_host.run("iptables", "-t", "nat", "-A", *redirect.split())
    lonely_host.run("iptables", "-t", "mangle", "-A", *restore.split(), "--restore-mark")
    assert meeting(iptables_save.tables(lonely_host.run("iptables-save"), "iptables", 4), 80) == 1
