"""Opening and closing a capture by NFQUEUE, on the real kernel."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.iptables import rules as iptables_rules
from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId, Selection, candidates
from certbot_standalone_nfq.capture.nfqueue.capture import NfqueueCapture
from certbot_standalone_nfq.capture.nfqueue.clients import open_queue
from certbot_standalone_nfq.capture.nfqueue.rule_writer import Rules, RuleWriter, State
from certbot_standalone_nfq.capture.nfqueue.state import waiting_packets
from certbot_standalone_nfq.capture.nftables import program
from certbot_standalone_nfq.capture.nftables import rules as nftables_rules
from certbot_standalone_nfq.capture.nftables.backend import NftablesWriter
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.host.command import Result, run
from lab.hosts import Host
from lab.interceptor import CLIENTS, IPTABLES, VARIANTS
from lab.processes import wait_until
from tests.capture.opening import open_capture


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def writer(variant: str) -> RuleWriter:
    return IptablesWriter(variant) if variant in IPTABLES else NftablesWriter()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_capture_that_is_closed_leaves_nothing(host: Host, variant: str, client: str) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    capture = open_capture(capture=variant, queue_client=client)
    assert "certbot-nfq-28080" in host.rules().lower()
    capture.close()
    assert host.rules() == before
    assert len(open_descriptors()) == descriptors
    capture.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_capture_is_closed_as_well_after_it_was_withdrawn_or_abandoned(host: Host, variant: str) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    for end in (NfqueueCapture.withdraw, NfqueueCapture.abandon):
        capture = open_capture(capture=variant)
        end(capture)
        end(capture)
        capture.close()
        assert host.rules() == before
        assert len(open_descriptors()) == descriptors


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_what_waits_when_a_capture_is_abandoned_passes_at_once(host: Host, variant: str, client: str) -> None:
    """The kernel drops what waits in a queue that is unbound: each visitor would wait for a second."""
    before = host.counter("TcpRetransSegs")
    capture = open_capture(capture=variant, queue_client=client, selection="port")
    with contextlib.ExitStack() as opened:
        opened.enter_context(socket.create_server(("127.0.0.1", 80), backlog=100))
        clients = [opened.enter_context(socket.socket()) for _ in range(50)]
        for each in clients:
            each.setblocking(False)
            assert each.connect_ex(("127.0.0.1", 80)) == errno.EINPROGRESS
        wait_until(lambda: waiting_packets() == 50, "all wait")
        capture.abandon()
        for each in clients:
            each.settimeout(20)
            each.sendall(b"connected")
    assert host.counter("TcpRetransSegs") == before
    capture.close()


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
    if variant in IPTABLES:
        IptablesWriter(variant).install(allocation, hold_open=0)
    else:
        program.run("nft", commands=nftables_rules.install_commands(allocation, Payload.TRANSPORT_HEADER, owned=False))


@pytest.mark.parametrize("variant", VARIANTS)
def test_leftovers_of_dead_runs_are_removed_and_living_runs_spared(host: Host, variant: str) -> None:
    living = open_capture(capture=variant)
    before = host.rules()
    for queue, marks in ((28081, Marks(0x40000000, 0x80000000)), (777, Marks(1, 2))):
        leave_behind(variant, Allocation(Http01Solver.selectors(80), RunId(queue, "dead"), marks))
    held = open_capture(8080, capture=variant)
    assert writer(variant).installed() == {living.allocation.run_id, held.allocation.run_id}
    held.close()
    assert host.rules() == before
    living.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_queue_and_the_marks_of_a_dead_run_are_taken_again(host: Host, variant: str) -> None:
    dead = candidates(Http01Solver.selectors(80))[0]
    leave_behind(variant, dead)
    held = open_capture(capture=variant)
    assert (held.allocation.queue, held.allocation.marks) == (dead.queue, dead.marks)
    held.close()


def test_an_opening_that_fails_midway_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    monkeypatch.setattr(iptables_rules, "install_script", lambda *_: "*mangle\n-A NO-SUCH -j ACCEPT\nCOMMIT\n")
    with pytest.raises(errors.FirewallRefused):
        open_capture(capture="iptables")
    assert host.rules() == before
    assert len(open_descriptors()) == descriptors
    assert host.queues() == ""


@pytest.mark.anywhere
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_opening_that_is_interrupted_at_any_program_it_runs_leaves_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException], done: bool
) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    for number in itertools.count(1):
        interrupt_at(number, interruption, monkeypatch, done=done)
        try:
            capture = open_capture(capture="iptables-nft")
        except interruption:
            assert host.rules() == before, number
            assert len(open_descriptors()) == descriptors, number
            assert host.queues() == "", number
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
capture, run, numbers = open_capture(capture="iptables-nft"), backend.run, itertools.count(1)
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
