"""Rules are removed whatever is in the way: no listing, a lock, rules that are missing, programs that hang."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.iptables import backend as iptables
from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import Marks, RunId, Selection, candidates
from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.host.command import find_program
from lab.hosts import Host
from lab.interceptor import CLIENTS, IPTABLES, VARIANTS
from lab.processes import children, has_ended, wait_until
from tests.capture.nfqueue.dying import pretend_to_die
from tests.capture.nfqueue.test_setup import leave_behind, writer
from tests.capture.opening import open_capture


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def make_unlistable(host: Host) -> None:
    """Add to iptables' tables what it cannot express, so that it lists nothing of them."""
    for family in ("ip", "ip6"):
        host.run("nft", f"add table {family} mangle; add chain {family} mangle other")
        host.run("nft", f"add rule {family} mangle other numgen inc mod 2 0 accept")


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "iptables-legacy"])
def test_run_after_run_leaves_nothing_where_iptables_cannot_list_its_rules(host: Host, variant: str) -> None:
    make_unlistable(host)
    for _ in range(3):
        open_capture(capture=variant).close()
        assert "certbot-nfq" not in host.run("nft", "list", "ruleset").lower()
    assert host.run("nft", "list", "ruleset").count("numgen") == 2


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("nft", [True, False], ids=["with nft", "without nft"])
def test_leftovers_are_removed_where_iptables_cannot_list_its_rules(
    host: Host, nft: bool, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_unlistable(host)
    dead = candidates(Http01Solver.selectors(port))[0]
    leave_behind("iptables-nft", dead)
    if not nft:
        hide(monkeypatch, "nft")
    held = open_capture(capture="iptables-nft")
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


@pytest.mark.anywhere
def test_it_is_said_where_leftovers_cannot_be_found_out(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host.run("nft", "add table ip mangle; add chain ip mangle INPUT { type filter hook input priority -150; }")
    host.run("nft", "add rule ip mangle INPUT numgen inc mod 2 0 accept")
    hide(monkeypatch, "nft")
    open_capture(capture="iptables-nft").close()
    assert "left firewall rules behind is unknown" in caplog.text
    assert "CERTBOT-NFQ" not in host.run("nft", "list", "ruleset")


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("variant", IPTABLES)  # a table that nft owns can be removed by its owner alone
def test_the_watchdogs_commands_remove_the_rules_of_every_selection(
    host: Host, variant: str, selection: Selection
) -> None:
    before = host.rules()
    held = open_capture(capture=variant, selection=selection.value)
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


@pytest.mark.anywhere
def test_the_watchdog_tries_until_another_program_releases_the_lock(
    host: Host, monkeypatch: pytest.MonkeyPatch, dying: Callable[[IptablesWriter], int], tmp_path: Path
) -> None:
    """Of a lock that no other test waits for."""
    monkeypatch.setattr(iptables, "LOCK_SECONDS", 1)
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    before = host.rules()
    helper = dying(IptablesWriter("iptables-legacy"))
    with (tmp_path / "lock").open("a") as lock:
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


@pytest.mark.anywhere
@pytest.mark.parametrize("client", CLIENTS)
def test_a_firewall_program_that_hangs_leaves_no_queue_and_no_thread(host: Host, hang: Path, client: str) -> None:
    threads = threading.active_count()
    for _ in range(2):
        hang.touch()
        with pytest.raises(errors.Error, match="did not end within"):
            open_capture(capture="iptables", queue_client=client)
        assert host.queues() == ""
        assert threading.active_count() == threads
    hang.unlink()
    open_capture(capture="iptables", queue_client=client).close()
    assert "CERTBOT-NFQ" not in host.rules()


@pytest.mark.anywhere
@pytest.mark.parametrize("client", CLIENTS)
def test_a_firewall_program_that_hangs_at_the_end_leaves_no_queue_and_no_thread(
    host: Host, hang: Path, client: str
) -> None:
    threads = threading.active_count()
    capture = open_capture(capture="iptables", queue_client=client)
    hang.touch()
    with contextlib.suppress(errors.Error):  # where only the listing hangs, they can be removed
        capture.close()
    assert host.queues() == ""
    assert threading.active_count() == threads
