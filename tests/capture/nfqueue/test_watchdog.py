from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.capture.nfqueue.removal import Removal
from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog
from lab.processes import children, end, has_ended, wait_until
from tests.capture.nfqueue.dying import pretend_to_die

PARENT = """
import os, signal, subprocess, sys, time
from certbot_standalone_nfq.capture.nfqueue.removal import Removal
from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog
watchdog = Watchdog()
watchdog.start([Removal(("false",), "", (("false",),), (("touch", sys.argv[1]),), ("nothing there",))])
if "child" in sys.argv:
    subprocess.Popen(["sh", "-c", "read -r line"], stdin=subprocess.PIPE, pass_fds=[watchdog.pipe])
print("ready", flush=True)
signal.pause()
"""

ENDING = PARENT.replace("print(", "watchdog.stay_on_duty(); print(").replace("signal.pause()\n", "")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it's run"


def removal(marker: Path, *proof: str) -> Removal:
    """Return one whose transaction touches a file, or where that fails, that has a proof."""
    return Removal(("touch", str(marker)), "", (), (proof or ("false",),), ("nothing there",))


@pytest.fixture
def guarded(marker: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(marker)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    (helper,) = children(process.pid)
    yield process, helper
    end(process, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_commands_are_run_when_the_process_dies_even_if_one_fails(
    guarded: tuple[subprocess.Popen[str], int], marker: Path, number: int
) -> None:
    process, helper = guarded
    process.send_signal(number)
    wait_until(marker.exists, "the helper has run its commands")
    wait_until(lambda: has_ended(helper), "the helper is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_helper_outlives_the_signals_that_a_service_manager_sends_to_all(
    guarded: tuple[subprocess.Popen[str], int], marker: Path, number: int
) -> None:
    process, helper = guarded
    os.kill(helper, number)
    process.kill()
    wait_until(marker.exists, "the helper has run its commands")


def test_the_helper_is_in_a_session_of_its_own(guarded: tuple[subprocess.Popen[str], int]) -> None:
    _, helper = guarded
    assert os.getsid(helper) == helper


def test_a_dismissed_helper_ends_without_doing_anything(marker: Path) -> None:
    watchdog = Watchdog()
    before = children(os.getpid())
    watchdog.start([removal(marker)])
    (helper,) = children(os.getpid()) - before
    watchdog.dismiss()
    watchdog.dismiss()
    assert has_ended(helper)
    assert not marker.exists()


def test_dismissing_one_that_was_killed_is_no_error(marker: Path) -> None:
    watchdog = Watchdog()
    before = children(os.getpid())
    watchdog.start([removal(marker)])
    (helper,) = children(os.getpid()) - before
    os.kill(helper, signal.SIGKILL)
    wait_until(lambda: has_ended(helper), "the helper has ended")
    watchdog.dismiss()


def test_one_that_stays_on_duty_acts_when_its_process_ends_and_python_does_not_warn_of_it(marker: Path) -> None:
    command = [sys.executable, "-W", "always", "-c", ENDING, str(marker)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (finished.stdout, finished.stderr) == ("ready\n", "")
    wait_until(marker.exists, "the helper has run its commands")


def test_a_watchdog_that_never_started_holds_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Watchdog().dismiss()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("message", ["there is nothing there", "the lock is held"])
def test_it_is_tried_again_until_a_program_says_that_nothing_is_left(tmp_path: Path, message: str) -> None:
    """Its words come from a file that the test changes."""
    watchdog, said, tried = Watchdog(), tmp_path / "said", tmp_path / "tried"
    said.write_text(message)
    before = children(os.getpid())
    script = f"cat {said}; echo again >> {tried}; false"
    watchdog.start([removal(tmp_path / "no folder" / "file", "sh", "-c", script)])
    (helper,) = children(os.getpid()) - before
    pretend_to_die(watchdog)
    wait_until(tried.exists, "it was tried")
    if "lock" in message:
        wait_until(lambda: tried.read_text().count("again") > 1, "it was tried again")
        assert not has_ended(helper)
        said.write_text("there is nothing there")
    wait_until(lambda: has_ended(helper), "the helper is gone")
    watchdog.dismiss()
