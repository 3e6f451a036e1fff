"""Which programs are asked for rules, and what becomes of one that cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.firewall.reader import read_rules, take_snapshot, variants
from certbot_standalone_nfq.host.kernel_modules import Presence
from lab.hosts import Host

pytestmark = pytest.mark.anywhere

RULE = ("-A", "INPUT", "-s", "203.0.113.1/32", "-j", "DROP")


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def test_the_rules_of_all_programs_and_both_ip_versions_are_in_a_snapshot_once(host: Host) -> None:
    assert take_snapshot().rules == []
    host.run("iptables-nft", *RULE)
    host.run("iptables-legacy", *RULE)
    host.run("ip6tables", "-A", "INPUT", "-s", "2001:db8::1/128", "-j", "DROP")
    host.run("nft", "add table inet t; add chain inet t c; add rule inet t c drop")
    texts = [rule.text for rule in take_snapshot().rules]
    assert len(texts) == 4
    assert len([text for text in texts if text.endswith(" ".join(RULE))]) == 2
    assert [text for text in texts if text.startswith("ip6tables")]
    assert [text for text in texts if text.startswith("nft table inet t, chain c")]


def test_rules_that_nft_added_to_a_table_of_iptables_are_not_overlooked(host: Host) -> None:
    host.run("iptables-nft", "-t", "mangle", "-A", "INPUT", "-j", "ACCEPT")
    host.run("nft", "add rule ip mangle INPUT tcp dport { 80, 82 } meta mark set 0x10000000")
    assert [rule.marks for rule in take_snapshot().rules if rule.marks] == [0x10000000]


@pytest.mark.parametrize("nf_tables", [Presence.AVAILABLE, Presence.NOT_FOUND])
def test_what_is_not_loaded_has_no_rules_and_is_not_loaded_for_the_asking(host: Host, nf_tables: Presence) -> None:
    host.run("iptables-legacy", *RULE)
    snapshot = read_rules(variants(Deadline(10)), nf_tables, Deadline(10), may_load=True)
    assert [listing.program for listing in snapshot.listings] == ["iptables-legacy"]


def test_where_it_is_not_known_whether_something_is_loaded_it_may_be_asked_or_not(host: Host) -> None:
    host.run("iptables-nft", *RULE)
    found = variants(Deadline(10))
    assert len(read_rules(found, Presence.UNKNOWN, Deadline(10), may_load=True).rules) == 1
    (listing,) = read_rules(found, Presence.UNKNOWN, Deadline(10)).listings
    assert listing.complaint == "cannot determine whether the kernel has nf_tables loaded"


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("echo out of luck >&2; exit 1", "out of luck"),
        ("echo no JSON at all", "its output could not be parsed"),
        ("echo 7", "its output could not be parsed"),
        ('echo \'{"nftables": [{"chain": {}}]}\'', "its output could not be parsed"),
    ],
)
def test_a_program_that_does_not_show_its_rules_is_noted_and_the_others_are_read(
    host: Host, empty_path: Path, output: str, complaint: str
) -> None:
    for name in ("iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore"):
        (empty_path / name).symlink_to(f"/usr/sbin/{name}")
    (empty_path / "nft").write_text(f"#!/bin/sh\n{output}\n")
    (empty_path / "nft").chmod(0o755)
    host.run("iptables-legacy", *RULE)
    snapshot = read_rules(variants(Deadline(10)), Presence.LOADED, Deadline(10))
    assert [(listing.program, listing.complaint) for listing in snapshot.listings] == [
        ("iptables-legacy", ""),
        ("nft", complaint),
    ]
    assert len(snapshot.rules) == 1
