"""Rules that give packets for this machine another source, by each program."""

from __future__ import annotations

import shlex

import pytest

from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.host.firewall.rules import translates_sources
from lab import hosts

INPUT = "-p tcp --dport 8080 -j SNAT --to-source"
NFT = "add table {ip} t; add chain {ip} t c {{ type nat hook {hook} priority 100; }}; add rule {ip} t c {rule}"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (f"iptables-nft -t nat -A INPUT {INPUT} 192.0.2.1", True),
        (f"iptables-legacy -t nat -A INPUT {INPUT} 192.0.2.1", True),
        (f"ip6tables-nft -t nat -A INPUT {INPUT} 2001:db8::1", True),
        (["nft", NFT.format(ip="ip", hook="input", rule="tcp dport 8080 snat to 192.0.2.1")], True),
        (["nft", NFT.format(ip="ip6", hook="input", rule="tcp dport 8080 snat to 2001:db8::1")], True),
        ("iptables-nft -t nat -A POSTROUTING -j MASQUERADE", False),
        ("iptables-legacy -t nat -A POSTROUTING -j MASQUERADE", False),
        ("iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-port 8080", False),
        (["nft", NFT.format(ip="ip", hook="postrouting", rule="masquerade")], False),
    ],
    ids=str,
)
def test_only_source_translation_on_the_way_in_counts(command: str | list[str], expected: bool) -> None:
    with hosts.host("t") as host:
        host.run(*(shlex.split(command) if isinstance(command, str) else command))
        with host.inside():
            assert translates_sources(take_snapshot().tables) is expected
