"""A day's work of `answer`, which `scripts/test-answers` asks for: requests for challenges, one connection each.

Afterwards its memory and its open files must be as they were after the first ones, and whichever way it ends, by
SIGTERM or SIGKILL, nothing may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import hosts
from lab.answerer import THUMBPRINT, Answerer, answerer
from lab.ebpf import attached
from lab.hosts import Host
from lab.http import ask, body, request
from lab.interceptor import BY_RULES, EBPF
from lab.load import load
from lab.nginx import nginx
from lab.processes import UNMEASURED, wait_until

NAME = "example.com"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
FIRST = 10_000
"""Requests after which its tables are as large as they get."""
MEBIBYTES = 50
"""With 4,096 connections kept, as when requests come as fast as they are answered; it begins with 36 to 39."""
_GROWTH = 1.5
_SLICE = 20.0
"""Seconds of load at most between two counts."""
_PER_SECOND = 500
"""Answers at most: the engine's bound."""


@dataclass(frozen=True)
class Day:
    """What came of one run."""

    answered: int
    failed: int
    rate: float
    """Answers for each second of CPU time."""
    first: float
    """MiB of memory after the first requests."""
    last: float
    opened: int
    """Files that are open at the end and were not then."""

    @property
    def is_good(self) -> bool:
        """Whether nothing failed or grew."""
        return not self.failed and not self.opened and self.last < MEBIBYTES and self.last - self.first < _GROWTH


def main() -> int:
    """Show what the requests cost by each way to capture; return 1 if something failed, grew or was left."""
    parser = argparse.ArgumentParser(prog="scripts/test-answers", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="how many (default: 100000)")
    ways = (BY_RULES, *EBPF)
    parser.add_argument("--capture", action="append", choices=ways, help="by this way (default: by each)")
    options = parser.parse_args()
    print(
        "| capture | answered | failed | answers per CPU second | MiB after the first | MiB at the end | files | left |"
    )
    print("|---|---|---|---|---|---|---|---|")
    works = [_works(capture, options.requests) for capture in options.capture or ways]  # each, whatever the other does
    return int(not all(works))


def _works(capture: str, requests: int) -> bool:
    with (
        hosts.pair() as (client, server),
        tempfile.TemporaryDirectory() as folder,
        nginx(server, Path(folder) / "nginx"),
    ):
        before = _state(server)
        left = []
        for number in (signal.SIGKILL, signal.SIGTERM):
            with _service(server, capture) as running:
                day = _day(client, server, running, requests if number is signal.SIGTERM else 1)
                running.process.send_signal(number)
                running.process.wait()
            left.append(not _comes_true(lambda: _state(server) == before, "nothing is left"))
    figures = f"{day.rate:.0f} | {day.first:.1f} | {day.last:.1f} | {day.opened:+}"
    print(f"| {capture} | {day.answered} | {day.failed} | {figures} | {sum(left)} |", flush=True)
    return day.is_good and not any(left)


def _service(server: Host, capture: str) -> contextlib.AbstractContextManager[Answerer]:
    arguments = ("--thumbprint", THUMBPRINT, "--capture", capture)
    return answerer(server, NAME, arguments=arguments, launcher=UNMEASURED)


def _day(client: Host, server: Host, running: Answerer, requests: int) -> Day:
    """Ask so often, and have one answer looked at."""
    answered, failed = _ask(client, server, min(FIRST, requests))
    first, files, began = running.memory(), running.descriptors(), running.seconds()
    more, more_failed = _ask(client, server, requests - answered)
    used = running.seconds() - began
    if body(ask(client, server.ipv4, request(TOKEN))) != f"{TOKEN}.{THUMBPRINT}":
        raise RuntimeError("the answer is not what it should be")
    opened = _opened(running, files)
    rate = more / used if used else 0.0
    mebibytes = first / 1024, running.memory() / 1024
    return Day(answered + more, failed + more_failed, rate, *mebibytes, opened)


def _opened(running: Answerer, files: int) -> int:
    """Return how many files stay open beyond a number. Programs that look after the rules have some for a moment."""
    closed = _comes_true(lambda: running.descriptors() <= files, "connections are closed")
    return 0 if closed else running.descriptors() - files


def _ask(client: Host, server: Host, requests: int) -> tuple[int, int]:
    """Ask at least so often; return how often, and how many requests failed."""
    asked = failed = 0
    url = f"http://{server.ipv4}/.well-known/acme-challenge/{TOKEN}"
    while asked < requests:
        with load(client, url, handshakes=True, name=NAME) as counted:
            time.sleep(min(_SLICE, (requests - asked) / _PER_SECOND))
        asked, failed = asked + counted.requests, failed + counted.failures
    return asked, failed


def _state(server: Host) -> tuple[str, str, list[str]]:
    """Return what must be as before."""
    return server.rules(), server.queues(), attached(server)


def _comes_true(condition: Callable[[], bool], what: str) -> bool:
    with contextlib.suppress(TimeoutError):
        wait_until(condition, what)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
