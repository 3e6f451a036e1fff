"""When connection tracking speaks for eBPF, and what the log says of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.capture.ebpf import system
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.host import tracking
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.settings import Settings
from lab.hosts import Host, track_connections

MARKED = "-t mangle -A PREROUTING -j CONNMARK --restore-mark"
PUBLISHED = "-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 192.0.2.80:8080"


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


@pytest.fixture
def tracked(host: Host) -> Host:
    """A host that tracks connections."""
    track_connections(host)
    return host


def chosen(caplog: pytest.LogCaptureFixture, **settings: Any) -> str:
    """Return what the log says of the choice."""
    caplog.set_level(logging.INFO, "certbot_standalone_nfq.capture.choice")
    with contextlib.ExitStack() as held:
        choice.open_capture(Settings(**settings), Http01Solver.selectors(80), take_snapshot(), held)
    (said,) = [record.getMessage() for record in caplog.records if record.name.endswith("choice")]
    return said.removeprefix("Packets to port 80 are captured by ")


def test_a_host_that_tracks_no_connections_goes_on_so(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(caplog) == "ebpf, as no connections are tracked here"
    assert not tracking.in_use()
    assert host.rules().strip() == ""


def test_where_ebpf_would_be_better_and_cannot_be_used_the_log_says_why(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(system, "call", refuse)
    why = "not by ebpf: The kernel does not permit eBPF here."
    assert chosen(caplog).startswith(f"iptables, as it is the first that works; {why}")


def test_a_host_that_tracks_connections_gets_rules(tracked: Host, caplog: pytest.LogCaptureFixture) -> None:
    assert tracking.in_use()
    assert chosen(caplog) == "iptables, as it is the first that works"


def test_what_is_asked_for_is_taken(tracked: Host, caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(caplog, capture="ebpf") == "ebpf, as it was asked for"


@pytest.mark.parametrize("option", [{"selection": "prefilter"}, {"queue": 4711}, {"mark": 0x30000000}])
def test_an_option_of_the_queue_asks_for_one(
    host: Host, caplog: pytest.LogCaptureFixture, option: dict[str, Any]
) -> None:
    assert chosen(caplog, **option).startswith("iptables, as")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (
            ["-t raw -A PREROUTING -p tcp --dport 80 -j NOTRACK"],
            "a rule exempts connections from being tracked: iptables",
        ),
        (["-t raw -A PREROUTING -p tcp -j CT --notrack"], "a rule exempts connections from being tracked: iptables"),
        ([PUBLISHED, "-t nat -A POSTROUTING -j MASQUERADE"], "a rule translates clients' addresses: iptables"),
    ],
)
def test_a_rule_that_is_hard_on_tracking_speaks_for_ebpf(
    tracked: Host, caplog: pytest.LogCaptureFixture, rules: list[str], why: str
) -> None:
    for rule in rules:
        tracked.run("iptables", *rule.split())
    assert chosen(caplog).startswith(f"ebpf, as {why}")


@pytest.mark.parametrize(
    "rules",
    [
        ["-t raw -A PREROUTING -p udp --dport 53 -j NOTRACK"],
        ["-t raw -A PREROUTING -p tcp --dport 53 -j CT --notrack"],
        [PUBLISHED, "-t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE"],
        ["-t nat -A POSTROUTING -j MASQUERADE"],
    ],
)
def test_rules_for_other_traffic_do_not(tracked: Host, caplog: pytest.LogCaptureFixture, rules: list[str]) -> None:
    for rule in rules:
        tracked.run("iptables", *rule.split())
    assert chosen(caplog).startswith("iptables, as")


def test_a_rule_by_nft_counts_likewise(tracked: Host, caplog: pytest.LogCaptureFixture) -> None:
    rules = "table inet raw { chain in { type filter hook prerouting priority raw; tcp dport 80 notrack; }; }"
    tracked.run("nft", "-f", "-", input=rules)
    assert chosen(caplog).startswith("ebpf, as a rule exempts connections from being tracked: nft")


def test_rules_that_cannot_be_read_speak_for_ebpf(
    tracked: Host, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert chosen(caplog) == "ebpf, as the rules that nft shows could not be read"


def test_a_conflict_over_marks_is_none_for_ebpf(tracked: Host, caplog: pytest.LogCaptureFixture) -> None:
    tracked.run("iptables", *MARKED.split())
    assert chosen(caplog).startswith("ebpf, as it is the first that works; not by iptables: Other firewall rules use")


def test_without_any_firewall_program_there_is_ebpf(
    tracked: Host, caplog: pytest.LogCaptureFixture, empty_path: Path
) -> None:
    choice.require_any(Settings())
    assert chosen(caplog).startswith("ebpf, as it is the first that works; not by iptables: The standalone-nfq plugin")
    with pytest.raises(errors.NoFirewallTool, match="Install your distribution's iptables or nftables package"):
        choice.require_any(Settings(selection="port"))


def test_what_is_expected_is_what_is_taken(tracked: Host, caplog: pytest.LogCaptureFixture) -> None:
    assert choice.expected(Settings(), Http01Solver.selectors(80), take_snapshot()) == (
        "iptables",
        "it is the first that works",
    )
    tracked.run("iptables", "-t", "raw", "-A", "PREROUTING", "-j", "NOTRACK")
    name, why = choice.expected(Settings(), Http01Solver.selectors(80), take_snapshot())
    assert chosen(caplog) == f"{name}, as {why}"
