"""The program that answers any token, as a service: what its manager is told, reloads, and what it costs to wait."""

from __future__ import annotations

import contextlib
import functools
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.cli.answer.names import MAX_NAMES
from lab.answerer import OTHER_THUMBPRINT, THUMBPRINT, Answerer, answerer, command
from lab.hosts import cable
from lab.http import ask, body, request
from lab.interceptor import BY_RULES, EBPF, VARIANTS
from lab.processes import UNMEASURED, wait_until
from tests.netns.conftest import Lab
from tests.netns.test_answer import ANSWER, ANY_TOKEN, NAME, NOT_FOUND, OTHER_NAME, asked
from tests.netns.test_answer_beside_others import is_answered

QUIET_SECONDS = 3.0
TELLING = [each for each in (*VARIANTS, *EBPF) if each != "iptables-legacy"]
"""Ways to capture with which nobody has to look whether the rules are still there."""


@contextlib.contextmanager
def manager(folder: Path) -> Iterator[tuple[socket.socket, tuple[str, ...]]]:
    """A service manager's socket, and what starts a service under it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(20)
        yield listening, ("env", f"NOTIFY_SOCKET={folder / 'notify'}")


def told(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().splitlines()


@pytest.mark.anywhere
def test_names_are_read_again_and_a_bad_file_keeps_the_old_ones(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_text(f"{NAME} {THUMBPRINT}\n")
    with manager(tmp_path) as (listening, launcher):
        with answerer(lab.server, arguments=("--config", str(file)), launcher=launcher) as running:
            assert told(listening) == ["READY=1", f"STATUS=Answering any token for {NAME} on port 80"]
            assert (asked(lab), asked(lab, OTHER_NAME)) == (ANSWER, NOT_FOUND)

            file.write_text(f"{OTHER_NAME} {OTHER_THUMBPRINT}\n")
            running.process.send_signal(signal.SIGHUP)
            assert [told(listening)[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]
            assert (asked(lab), asked(lab, OTHER_NAME)) == (NOT_FOUND, f"{ANY_TOKEN}.{OTHER_THUMBPRINT}")

            file.write_text("not a name at all\n")
            running.process.send_signal(signal.SIGHUP)
            assert told(listening)[0] == "RELOADING=1"
            assert told(listening) == ["READY=1", "STATUS=The last reload failed; see the log"]
            running.wait_for(f"all stays as it was. Line 1 of {file} has more than two words.")
            assert (asked(lab), asked(lab, OTHER_NAME)) == (NOT_FOUND, f"{ANY_TOKEN}.{OTHER_THUMBPRINT}")
        assert told(listening) == ["STOPPING=1"]


@pytest.mark.anywhere
def test_a_name_that_another_process_has_is_not_taken_by_a_reload(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_text(f"{NAME} {THUMBPRINT}\n")
    with answerer(lab.server, OTHER_NAME), answerer(lab.server, arguments=("--config", str(file))) as running:
        file.write_text(f"{NAME} {OTHER_THUMBPRINT}\nthird.example {THUMBPRINT}\n{OTHER_NAME} {OTHER_THUMBPRINT}\n")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(f"answers for {OTHER_NAME} on port 80 already.")
        assert (asked(lab), asked(lab, OTHER_NAME), asked(lab, "third.example")) == (ANSWER, ANSWER, NOT_FOUND)
        with answerer(lab.server, "third.example"):  # it has been given up
            assert asked(lab, "third.example") == ANSWER


@pytest.mark.anywhere
def test_pings_come_as_often_as_the_manager_expects(lab: Lab, tmp_path: Path) -> None:
    with (
        manager(tmp_path) as (listening, launcher),
        answerer(lab.server, NAME, launcher=(*launcher, "WATCHDOG_USEC=400000")) as running,
    ):
        assert told(listening)[0] == "READY=1"
        began = time.monotonic()
        assert [told(listening) for _ in range(5)] == [["WATCHDOG=1"]] * 5
        assert time.monotonic() - began > 0.9
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0


def is_quiet(running: Answerer, seconds: float) -> bool:
    """Whether no thread wakes up for some seconds."""
    before = running.wakeups()
    time.sleep(seconds)
    return running.wakeups() == before


@pytest.mark.parametrize("variant", TELLING)
def test_it_does_not_wake_up_while_nothing_happens(lab: Lab, variant: str) -> None:
    arguments = ("--thumbprint", THUMBPRINT, "--capture", variant)
    with answerer(lab.server, NAME, arguments=arguments, launcher=UNMEASURED) as running:
        assert asked(lab) == ANSWER
        # What the answer's end sets timers for comes first; it depends on the order in which the two sides close.
        wait_until(lambda: is_quiet(running, QUIET_SECONDS), "nothing wakes it up")


@pytest.mark.parametrize("variant", [BY_RULES, *EBPF])
def test_interfaces_come_and_go(lab: Lab, variant: str) -> None:
    arguments = ("--thumbprint", THUMBPRINT, "--capture", variant)
    with answerer(lab.server, NAME, arguments=arguments):
        for number in (110, 111):
            _, _, address, _ = cable(lab.client, lab.server, number, f"new{number}", f"new{number}")
            wait_until(functools.partial(is_answered, lab, address), "requests by the new interface are answered")
            lab.server.run("ip", "link", "delete", f"new{number}")
        assert asked(lab) == ANSWER


@pytest.mark.anywhere
def test_where_no_server_listens_it_says_so_or_listens_itself(lab: Lab) -> None:
    with answerer(lab.server, NAME, arguments=("--thumbprint", THUMBPRINT, "--port", "81")) as running:
        running.wait_for("Nothing listens on port 81 yet.")
    arguments = ("--thumbprint", THUMBPRINT, "--port", "81", "--listen")
    with answerer(lab.server, NAME, arguments=arguments):
        asking = request(ANY_TOKEN, headers=f"Host: {NAME}:81\r\n")
        assert body(ask(lab.client, lab.server.ipv4, asking, port=81)) == ANSWER
        other = request(ANY_TOKEN, headers=f"Host: {OTHER_NAME}\r\n")
        assert body(ask(lab.client, lab.server.ipv4, other, port=81)) == NOT_FOUND


@pytest.mark.parametrize("variant", [BY_RULES, *EBPF])
def test_there_may_be_as_many_names_as_one_process_takes(lab: Lab, tmp_path: Path, variant: str) -> None:
    file = tmp_path / "names"
    file.write_text("".join(f"n{number}.example {THUMBPRINT}\n" for number in range(MAX_NAMES)))
    arguments = ("--config", str(file), "--capture", variant)
    with answerer(lab.server, arguments=arguments, launcher=("prlimit", "--nofile=256:4096")) as running:
        assert asked(lab, "n0.example") == asked(lab, f"n{MAX_NAMES - 1}.example") == ANSWER
        assert asked(lab, f"n{MAX_NAMES}.example") == NOT_FOUND
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("Answering any token for n0.example", 2)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("-d", NAME), f"The command line names {NAME} without a thumbprint."),
        (("--thumbprint", THUMBPRINT), "There is no name to answer for."),
        (("-d", NAME, "--thumbprint", "x"), "The command line has 'x', which is no account's thumbprint."),
        (("-d", NAME, "--account", "--config-dir", "/nowhere"), "Certbot has no account below /nowhere"),
        (("-d", NAME, "--thumbprint", THUMBPRINT, "--mark", "7"), "--standalone-nfq-mark cannot be 0x7."),
    ],
)
def test_what_cannot_work_is_said_in_a_line(lab: Lab, arguments: tuple[str, ...], cause: str) -> None:
    finished = subprocess.run(command(lab.server, *arguments), check=False, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 1
    assert finished.stderr.startswith(cause)
    assert finished.stderr.count("\n") == 1
