from __future__ import annotations

from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.host.firewall.changes import RuleChanges, Told
from lab.hosts import Host

pytestmark = pytest.mark.root


@pytest.fixture
def changes(lonely_host: Host) -> Iterator[RuleChanges]:
    with lonely_host.inside():
        made = RuleChanges(b"certbot-nfq")
    yield made
    made.close()


def test_what_is_added_and_removed_by_name_is_told_and_nothing_else(lonely_host: Host, changes: RuleChanges) -> None:
    assert changes.take() is Told.NOTHING
    lonely_host.run("nft", "add table inet other; add chain inet other c")
    assert changes.take() is Told.NOTHING
    lonely_host.run("nft", "add table inet certbot-nfq-1-abcd")
    assert changes.take() is Told.ADDED
    lonely_host.run("nft", "delete table inet other")
    assert changes.take() is Told.NOTHING
    lonely_host.run("nft", "flush ruleset")
    assert changes.take() is Told.REMOVED


def test_rules_by_iptables_are_told_by_the_chain_that_they_jump_to(lonely_host: Host, changes: RuleChanges) -> None:
    chain = "CERTBOT-NFQ-1-abcd"
    lonely_host.run("iptables-nft", "-t", "mangle", "-N", chain)
    lonely_host.run("iptables-nft", "-t", "mangle", "-A", "INPUT", "-j", chain)
    assert changes.take() is Told.ADDED
    lonely_host.run("iptables-nft", "-t", "mangle", "-F", "INPUT")
    assert Told.REMOVED in changes.take()


def test_more_than_fits_counts_as_removed(lonely_host: Host, changes: RuleChanges) -> None:
    rules = "\n".join(f"add rule inet other c tcp dport {number} accept" for number in range(1, 20000))
    lonely_host.run("nft", "-f", "-", input=f"add table inet other\nadd chain inet other c\n{rules}\n")
    assert Told.REMOVED in changes.take()
