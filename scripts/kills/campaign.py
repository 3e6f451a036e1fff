"""One kill after another, and what is left after each."""

from __future__ import annotations

import contextlib
import enum
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.ebpf import attached
from lab.hosts import Host
from lab.http import read_response, request
from lab.processes import children, run, wait_until

CHALLENGE = request("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
_SECONDS = 60.0
"""How long it may take until nothing is left."""
_STOPPED_SECONDS = 0.2
_WATCHDOG = "read -r message && exit 0"


class Way(enum.Enum):
    """What is killed, and how."""

    SIGKILL = "SIGKILL"
    SIGTERM = "SIGTERM"
    SIGINT = "SIGINT"
    SIGHUP = "SIGHUP"
    STOP = "SIGSTOP, then SIGKILL"
    WATCHDOG = "the watchdog, by SIGKILL"
    BOTH = "both at once, by SIGKILL"


EBPF_BY_STUB = "ebpf-by-stub"
"""eBPF where programs can be attached by filters alone, which stay when the process is killed."""
PHASES = ("perform", "answering", "cleanup")


@dataclass(frozen=True)
class Point:
    """One kill: when, and of what."""

    way: Way
    phase: str
    moment: float
    """Seconds since the phase began."""
    capture: str
    selection: str

    def __str__(self) -> str:
        return f"{self.way.value}, {self.moment * 1000:.1f} ms after {self.phase} by {self.capture}, {self.selection}"

    @property
    def may_leave_something(self) -> bool:
        """Whether nobody is there to remove what is left but the next run."""
        by_stub = self.capture == EBPF_BY_STUB and self.way in (Way.SIGKILL, Way.STOP)
        return by_stub or self.way is Way.BOTH


class Victim:
    """The process that forks those that are killed."""

    def __init__(self, process: subprocess.Popen[str], server: Host, client: Host) -> None:
        self._process, self._server, self._client = process, server, client
        self._expect("ready")
        self._before = server.rules()
        self.durations = dict.fromkeys(PHASES, 0.1)
        """Seconds that each phase takes."""
        self.refused = 0
        """How often it could not begin."""
        self.left_for_the_next = 0
        """How often something was left that the next run removed."""

    def measure(self, capture: str) -> None:
        """Let it validate undisturbed, and note how long each phase takes."""
        self._begin(capture, "prefilter")
        times = []
        for what in (*PHASES, "done", "ended"):
            self._expect(what)
            times.append(time.monotonic())
        for phase, begin, end in zip(PHASES, times, times[1:]):
            self.durations[phase] = end - begin

    def kill(self, point: Point) -> str:
        """Kill at a point, and return what is wrong afterwards, or nothing."""
        self._begin(point.capture, point.selection)
        pid = self._expect(*PHASES[:1])
        for phase in PHASES[1 : PHASES.index(point.phase) + 1]:
            if self._line()[0] != phase:  # another program of this machine held the firewall's lock
                self.refused += 1
                self._expect_end()
                return self._what_is_left()
        with self._challenge() if point.phase == "answering" else contextlib.nullcontext():
            time.sleep(point.moment)
            _kill(pid, point.way)
            self._expect_end()
            if point.may_leave_something:
                self._let_the_next_run_remove(point)
            return self._what_is_left()

    def _let_the_next_run_remove(self, point: Point) -> None:
        wait_until(lambda: not self._processes("tables"), "no firewall program runs any more")
        if not self._is_clean():
            self.left_for_the_next += 1
            self._expect_the_servers_reply()
            self._begin(point.capture, point.selection)
            self._expect_end()

    def _expect_the_servers_reply(self) -> None:
        """Raise AssertionError unless the server gets challenge requests: what is left takes none."""
        for address in (self._server.ipv4, self._server.ipv6):
            with self._client.connect(address) as connection:
                connection.sendall(CHALLENGE)
                assert b" 404 " in read_response(connection), "what is left takes requests"

    def _begin(self, capture: str, selection: str) -> None:
        assert self._process.stdin
        print(capture, selection, file=self._process.stdin, flush=True)

    def _expect(self, *wanted: str) -> int:
        what, number = self._line()
        if what not in wanted:
            raise RuntimeError(f"{what} came instead of {' or '.join(wanted)}")
        return number

    def _expect_end(self) -> None:
        while self._line()[0] != "ended":
            pass

    def _line(self) -> tuple[str, int]:
        assert self._process.stdout
        what, number = self._process.stdout.readline().split()
        return what, int(number)

    @contextlib.contextmanager
    def _challenge(self) -> Iterator[None]:
        """Ask for the challenge as a validator does that does not care what becomes of it."""
        with self._client.connect(random.choice((self._server.ipv4, self._server.ipv6))) as connection:
            connection.sendall(CHALLENGE)
            yield

    def _what_is_left(self) -> str:
        try:
            wait_until(self._is_clean, "nothing is left", seconds=_SECONDS)
        except TimeoutError:
            watchdogs = self._processes(_WATCHDOG)
            programs = attached(self._server)
            return (
                f"left: rules {self._server.rules()!r}, queues {self._queues()!r}, programs {programs}, "
                f"watchdogs {watchdogs}"
            )
        return ""

    def _is_clean(self) -> bool:
        kept = self._processes(_WATCHDOG) or self._queues() or attached(self._server)
        return not kept and self._server.rules() == self._before

    def _queues(self) -> str:
        return self._server.run("cat", "/proc/net/netfilter/nfnetlink_queue")

    def _processes(self, text: str) -> list[int]:
        """Return those on the server whose command line contains a text, except the victim's."""
        pids = map(int, run(["ip", "netns", "pids", self._server.name]).split())
        return [pid for pid in pids if text in _command_line(pid) and "scripts.kills" not in _command_line(pid)]


def _kill(pid: int, way: Way) -> None:
    watchdogs = [child for child in children(pid) if _WATCHDOG in _command_line(child)]
    if way in (Way.WATCHDOG, Way.BOTH):
        _signal(signal.SIGKILL, *watchdogs)
    if way is Way.STOP:
        _signal(signal.SIGSTOP, pid)
        time.sleep(_STOPPED_SECONDS)
    if way is not Way.WATCHDOG:
        _signal(signal.SIGKILL if way in (Way.STOP, Way.BOTH) else signal.Signals[way.name], pid)


def _signal(number: signal.Signals, *pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def points(count: int, captures: list[str], chance: random.Random, durations: dict[str, float]) -> Iterator[Point]:
    """Yield so many points: each way in each phase by each capture in turn, at random moments."""
    kinds = [(way, phase, capture) for capture in captures for phase in PHASES for way in Way]
    for number in range(count):
        way, phase, capture = kinds[number % len(kinds)]
        moment = chance.uniform(0, durations[phase])
        yield Point(way, phase, moment, capture, chance.choice(("prefilter", "prefilter", "port", "stateless-port")))
