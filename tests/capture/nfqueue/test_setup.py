"""Opening and closing a capture by NFQUEUE, on the real kernel."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.iptables import backend as iptables
from certbot_standalone_nfq.capture.iptables import rules as iptables_rules
from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId, Selection, candidates
from certbot_standalone_nfq.capture.nfqueue.capture import NfqueueCapture
from certbot_standalone_nfq.capture.nfqueue.clients import open_queue
from certbot_standalone_nfq.capture.nfqueue.rule_writer import Rules, RuleWriter, State
from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog
from certbot_standalone_nfq.capture.nftables import program
from certbot_standalone_nfq.capture.nftables import rules as nftables_rules
from certbot_standalone_nfq.capture.nftables.backend import NftablesWriter
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.host.command import Result, find_program, run
from lab.hosts import Host
from lab.interceptor import CLIENTS, IPTABLES, VARIANTS
from lab.processes import children, has_ended, wait_until
from tests.capture.nfqueue.dying import pretend_to_die
from tests.capture.opening import open_capture

XTABLES_LOCK = Path("/run/xtables.lock")


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def writer(variant: str) -> RuleWriter:
    return IptablesWriter(variant) if variant in iptables.VARIANTS else NftablesWriter()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_capture_that_is_closed_leaves_nothing(host: Host, variant: str, client: str) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    capture = open_capture(firewall=variant, queue_client=client)
    assert "certbot-nfq-28080" in host.rules().lower()
    capture.close()
    assert host.rules() == before
    assert len(open_descriptors()) == descriptors
    capture.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_capture_is_closed_as_well_after_it_was_withdrawn_or_abandoned(host: Host, variant: str) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    for end in (NfqueueCapture.withdraw, NfqueueCapture.abandon):
        capture = open_capture(firewall=variant)
        end(capture)
        end(capture)
        capture.close()
        assert host.rules() == before
        assert len(open_descriptors()) == descriptors


def test_captures_at_one_time_take_other_queues_and_marks(host: Host) -> None:
    before = host.rules()
    held = [open_capture() for _ in range(4)]
    assert len({each.allocation.queue for each in held}) == 4
    with pytest.raises(errors.ResourceInUse, match="Queue number 28080 is in use"):
        open_capture()
    for each in held:
        each.close()
    assert host.rules() == before


def test_a_mark_that_a_rule_uses_is_passed_over(host: Host) -> None:
    host.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0x10000000")
    held = open_capture()
    assert held.allocation.marks.both == 0xC0000000
    held.close()


@pytest.mark.parametrize("priority", ["-200", "-160", "-140"])
def test_bits_that_a_rule_of_nft_sets_ahead_of_ours_are_passed_over(host: Host, priority: str) -> None:
    """As a VPN program does, with bits of all the marks that are tried first."""
    host.run(
        "nft",
        f"add table inet vpn; add chain inet vpn in {{ type filter hook prerouting priority {priority}; }};"
        "add rule inet vpn in tcp dport 80 meta mark set 0x6d6f6c65",
    )
    held = open_capture()
    assert not held.allocation.marks.both & 0x6D6F6C65
    assert held.allocation.selection is Selection.PREFILTER
    held.close()


def test_rules_for_udp_alone_do_not_cost_the_prefilter(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """As wg-quick adds them."""
    for family in ("iptables", "ip6tables"):
        restore = ("-m", "comment", "--comment", "wg-quick(8) rule for wg0", "-j", "CONNMARK")
        host.run(family, "-t", "mangle", "-A", "PREROUTING", "-p", "udp", *restore, "--restore-mark")
        marked = ("-p", "udp", "-m", "mark", "--mark", "0xca6c")
        host.run(family, "-t", "mangle", "-A", "POSTROUTING", *marked, *restore, "--save-mark")
    held = open_capture()
    assert (held.name, held.allocation.selection) == ("iptables", Selection.PREFILTER)
    assert not caplog.records
    held.close()


def test_a_mark_that_the_user_chose_and_a_rule_uses_is_an_error(host: Host) -> None:
    host.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0x4")
    before = host.rules()
    with pytest.raises(errors.BadOption, match=r"0x6 .*--set-xmark 0x4/0xffffffff.*--standalone-nfq-mark"):
        open_capture(mark=6)
    assert host.rules() == before


def test_a_queue_that_the_user_chose_and_another_has_is_an_error(host: Host) -> None:
    held = open_capture(queue=5)
    with pytest.raises(errors.BadOption, match="Queue number 5 "):
        open_capture(queue=5)
    held.close()


def test_a_queue_that_a_rule_feeds_is_not_taken_while_its_program_is_away(host: Host) -> None:
    host.run("iptables", "-A", "INPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "28080", "--queue-bypass")
    held = open_capture()
    assert held.allocation.queue == 28081
    held.close()


def leave_behind(variant: str, allocation: Allocation) -> None:
    """Install rules as a run does that dies then. Those of nft's only stay where it cannot own a table."""
    if variant in iptables.VARIANTS:
        IptablesWriter(variant).install(allocation, hold_open=0)
    else:
        program.run("nft", commands=nftables_rules.install_commands(allocation, Payload.TRANSPORT_HEADER, owned=False))


@pytest.mark.parametrize("variant", VARIANTS)
def test_leftovers_of_dead_runs_are_removed_and_living_runs_spared(host: Host, variant: str) -> None:
    living = open_capture(firewall=variant)
    before = host.rules()
    for queue, marks in ((28081, Marks(0x40000000, 0x80000000)), (777, Marks(1, 2))):
        leave_behind(variant, Allocation(Http01Solver.selectors(80), RunId(queue, "dead"), marks))
    held = open_capture(8080, firewall=variant)
    assert writer(variant).installed() == {living.allocation.run_id, held.allocation.run_id}
    held.close()
    assert host.rules() == before
    living.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_queue_and_the_marks_of_a_dead_run_are_taken_again(host: Host, variant: str) -> None:
    dead = candidates(Http01Solver.selectors(80))[0]
    leave_behind(variant, dead)
    held = open_capture(firewall=variant)
    assert (held.allocation.queue, held.allocation.marks) == (dead.queue, dead.marks)
    held.close()


def test_an_opening_that_fails_midway_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    monkeypatch.setattr(iptables_rules, "install_script", lambda *_: "*mangle\n-A NO-SUCH -j ACCEPT\nCOMMIT\n")
    with pytest.raises(errors.FirewallRefused):
        open_capture(firewall="iptables")
    assert host.rules() == before
    assert len(open_descriptors()) == descriptors
    assert host.run("cat", "/proc/net/netfilter/nfnetlink_queue") == ""


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_opening_that_is_interrupted_at_any_program_it_runs_leaves_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException], done: bool
) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    for number in itertools.count(1):
        interrupt_at(number, interruption, monkeypatch, done=done)
        try:
            capture = open_capture(firewall="iptables-nft")
        except interruption:
            assert host.rules() == before, number
            assert len(open_descriptors()) == descriptors, number
            assert host.run("cat", "/proc/net/netfilter/nfnetlink_queue") == "", number
        else:
            break
        finally:
            monkeypatch.undo()
    capture.close()
    assert number > len(("rules of others", "leftovers of IPv4", "of IPv6", "rules of IPv4", "of IPv6"))


def interrupt_at(number: int, interruption: type[BaseException], patch: pytest.MonkeyPatch, *, done: bool) -> None:
    """Raise when the n-th program is run, before it has done anything or when it has done all; only once."""
    numbers = itertools.count(1)

    def run_or_raise(*arguments: Any, **options: Any) -> Result:
        here = next(numbers)
        if here == number and not done:
            raise interruption
        result = run(*arguments, **options)
        if here == number:
            raise interruption
        return result

    for module in ("capture.iptables.backend", "host.firewall.reader"):
        patch.setattr(f"certbot_standalone_nfq.{module}.run", run_or_raise)


CLOSING = """
import itertools, sys
from certbot_standalone_nfq.capture.iptables import backend
from tests.capture.opening import open_capture
capture, run, numbers = open_capture(firewall="iptables-nft"), backend.run, itertools.count(1)
def run_or_raise(*arguments, **options):
    if next(numbers) == int(sys.argv[1]):
        raise KeyboardInterrupt
    return run(*arguments, **options)
backend.run = run_or_raise
capture.close()
"""


@pytest.mark.parametrize("number", range(1, 3))
def test_what_an_interrupted_closing_leaves_is_removed_when_the_process_ends(host: Host, number: int) -> None:
    before = host.rules()
    closed = subprocess.run([sys.executable, "-c", CLOSING, str(number)], check=False, capture_output=True, text=True)
    assert "KeyboardInterrupt" in closed.stderr
    wait_until(lambda: host.rules() == before, "the watchdog has removed the rules")


def make_unlistable(host: Host) -> None:
    """Add to iptables' tables what it cannot express, so that it lists nothing of them."""
    for family in ("ip", "ip6"):
        host.run("nft", f"add table {family} mangle; add chain {family} mangle other")
        host.run("nft", f"add rule {family} mangle other numgen inc mod 2 0 accept")


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "iptables-legacy"])
def test_run_after_run_leaves_nothing_where_iptables_cannot_list_its_rules(host: Host, variant: str) -> None:
    make_unlistable(host)
    for _ in range(3):
        open_capture(firewall=variant).close()
        assert "certbot-nfq" not in host.run("nft", "list", "ruleset").lower()
    assert host.run("nft", "list", "ruleset").count("numgen") == 2


@pytest.mark.parametrize("nft", [True, False], ids=["with nft", "without nft"])
def test_leftovers_are_removed_where_iptables_cannot_list_its_rules(
    host: Host, nft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_unlistable(host)
    dead = candidates(Http01Solver.selectors(80))[0]
    leave_behind("iptables-nft", dead)
    if not nft:
        hide(monkeypatch, "nft")
    held = open_capture(firewall="iptables-nft")
    assert dead.run_id.run not in host.run("nft", "list", "ruleset")
    held.close()
    assert "CERTBOT-NFQ" not in host.run("nft", "list", "ruleset")


def hide(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a program not be found."""
    for module in ("capture.iptables.backend", "host.firewall.reader"):
        monkeypatch.setattr(
            f"certbot_standalone_nfq.{module}.find_program",
            lambda name: None if name == program else find_program(name),
        )


def test_it_is_said_where_leftovers_cannot_be_found_out(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host.run("nft", "add table ip mangle; add chain ip mangle INPUT { type filter hook input priority -150; }")
    host.run("nft", "add rule ip mangle INPUT numgen inc mod 2 0 accept")
    hide(monkeypatch, "nft")
    open_capture(firewall="iptables-nft").close()
    assert "left firewall rules behind is unknown" in caplog.text
    assert "CERTBOT-NFQ" not in host.run("nft", "list", "ruleset")


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("variant", IPTABLES)  # a table that nft owns can be removed by its owner alone
def test_the_watchdogs_commands_remove_the_rules_of_every_selection(
    host: Host, variant: str, selection: Selection
) -> None:
    before = host.rules()
    held = open_capture(firewall=variant, selection=selection.value)
    (helper,) = children(os.getpid())
    watchdog = Watchdog()
    watchdog.start(writer(variant).removals(held.allocation))
    (other,) = children(os.getpid()) - {helper}
    pretend_to_die(watchdog)
    wait_until(lambda: has_ended(other), "the watchdog has ended")
    watchdog.dismiss()
    assert host.rules() == before
    held.close()


@pytest.mark.parametrize("damage", [("-D", "INPUT", "1"), ("-F", "INPUT"), ("-F", "CERTBOT-NFQ-28080-0f1e"), ("-F",)])
@pytest.mark.parametrize("variant", IPTABLES)
def test_the_watchdog_removes_rules_of_which_some_are_missing(
    host: Host, variant: str, damage: tuple[str, ...], dying: Callable[[IptablesWriter], int]
) -> None:
    before = host.rules()
    helper = dying(IptablesWriter(variant))
    host.run(variant, "-t", "mangle", *damage)
    os.kill(helper, signal.SIGCONT)
    wait_until(lambda: has_ended(helper), "the watchdog has ended")
    assert host.rules() == before


def test_the_watchdog_tries_until_another_program_releases_the_lock(
    host: Host, monkeypatch: pytest.MonkeyPatch, dying: Callable[[IptablesWriter], int]
) -> None:
    monkeypatch.setattr(iptables, "LOCK_SECONDS", 1)
    before = host.rules()
    helper = dying(IptablesWriter("iptables-legacy"))
    with XTABLES_LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.kill(helper, signal.SIGCONT)
        wait_until(lambda: "sleep" in names_of(children(helper)), "the first try has failed", seconds=60)
    assert host.rules() != before
    wait_until(lambda: has_ended(helper), "the watchdog has ended", seconds=60)
    assert host.rules() == before


def names_of(processes: set[int]) -> list[str]:
    """Return the names of the programs that some processes run, of those that still do."""
    names = []
    for each in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append(Path(f"/proc/{each}/comm").read_text().strip())
    return names


@pytest.fixture
def dying() -> Iterator[Callable[[IptablesWriter], int]]:
    """Add rules as a process does that has died since, whose watchdog is stopped; return the watchdog's process id."""
    (allocation,) = candidates(Http01Solver.selectors(80), queue=28080, marks=Marks(1, 2))
    allocation = dataclasses.replace(allocation, run_id=RunId(28080, "0f1e"))
    started: list[int] = []
    watchdogs: list[Watchdog] = []

    def start(rule_writer: IptablesWriter) -> int:
        others, watchdog = children(os.getpid()), Watchdog()
        watchdog.start(rule_writer.removals(allocation))
        started.extend(children(os.getpid()) - others)
        os.kill(started[0], signal.SIGSTOP)
        rule_writer.install(allocation, hold_open=watchdog.pipe)
        pretend_to_die(watchdog)
        watchdogs.append(watchdog)
        return started[0]

    yield start
    for helper, watchdog in zip(started, watchdogs):
        os.kill(helper, signal.SIGKILL)
        watchdog.dismiss()


class Stubborn(IptablesWriter):
    """Cannot remove its rules."""

    def withdraw(self, allocation: Allocation) -> bool:
        raise errors.FirewallRefused(self.name, "the disk is full")


@pytest.fixture
def stubborn(host: Host) -> Iterator[NfqueueCapture]:
    """A capture whose rules cannot be removed, without a watchdog, which would go on to try."""
    (allocation,) = candidates(Http01Solver.selectors(80), queue=28080, marks=Marks(1, 2))
    rules = Rules(Stubborn("iptables-nft"), allocation)
    with contextlib.ExitStack() as opened:
        queue = opened.enter_context(contextlib.closing(open_queue(28080)))
        opened.callback(IptablesWriter("iptables-nft").remove, allocation.run_id, 80)
        rules.install(hold_open=0)
        yield NfqueueCapture("iptables-nft", allocation, queue, rules, contextlib.ExitStack())


def test_packets_pass_once_where_the_rules_could_not_be_removed(stubborn: NfqueueCapture) -> None:
    with pytest.raises(errors.FirewallRefused, match="the disk is full"):
        stubborn.withdraw()
    with socket.create_server(("127.0.0.1", 80)) as listener, socket.create_connection(("127.0.0.1", 80)) as client:
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(REQUEST_PREFIX)
            (packet,) = wait_until(stubborn.receive, "the request is captured")
            stubborn.decide(packet, Verdict.PASS)
            assert accepted.recv(100) == REQUEST_PREFIX
        assert stubborn.receive() == []


def test_what_a_removal_failed_at_is_left_to_the_watchdog(stubborn: NfqueueCapture, host: Host) -> None:
    installed = host.rules()
    with pytest.raises(errors.FirewallRefused, match="the disk is full"):
        stubborn.withdraw()
    stubborn.withdraw()
    assert host.rules() == installed


def test_an_error_that_follows_from_another_does_not_hide_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "certbot_standalone_nfq")
    (allocation,) = candidates(Http01Solver.selectors(80), queue=28080, marks=Marks(1, 2))
    monkeypatch.setattr(iptables_rules, "install_script", lambda *_: "*mangle\n-A NO-SUCH -j ACCEPT\nCOMMIT\n")
    rules = Rules(Stubborn("iptables-nft"), allocation)
    with pytest.raises(errors.FirewallRefused, match="line 2 failed"), rules:
        rules.install(hold_open=0)
    assert rules.state is State.UNKNOWN
    assert "The rules could not be removed: iptables-nft could not" in caplog.text


HANGING = """#!/bin/sh
[ -e {folder}/hang ] && case "$0" in */{program}) exec /bin/sleep 600 ;; esac
exec {real} "$@"
"""


@pytest.fixture(params=["iptables-save", "iptables-restore", "ip6tables-restore"])
def hang(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: as long as it exists, one of the firewall programs does not end."""
    monkeypatch.setattr(iptables, "TIMEOUT", 0.5)
    for name in ("iptables", "ip6tables"):
        for tool in (tmp_path / f"{name}{suffix}" for suffix in ("", "-restore", "-save")):
            tool.write_text(HANGING.format(folder=tmp_path, program=request.param, real=find_program(tool.name)))
            tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "hang"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_firewall_program_that_hangs_leaves_no_queue_and_no_thread(host: Host, hang: Path, client: str) -> None:
    threads = threading.active_count()
    for _ in range(2):
        hang.touch()
        with pytest.raises(errors.Error, match="did not end within"):
            open_capture(firewall="iptables", queue_client=client)
        assert host.run("cat", "/proc/net/netfilter/nfnetlink_queue") == ""
        assert threading.active_count() == threads
    hang.unlink()
    open_capture(firewall="iptables", queue_client=client).close()
    assert "CERTBOT-NFQ" not in host.rules()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_firewall_program_that_hangs_at_the_end_leaves_no_queue_and_no_thread(
    host: Host, hang: Path, client: str
) -> None:
    threads = threading.active_count()
    capture = open_capture(firewall="iptables", queue_client=client)
    hang.touch()
    with contextlib.suppress(errors.Error):  # where only the listing hangs, they can be removed
        capture.close()
    assert host.run("cat", "/proc/net/netfilter/nfnetlink_queue") == ""
    assert threading.active_count() == threads
