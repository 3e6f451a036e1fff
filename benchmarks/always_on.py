"""What `answer` costs a server that it runs on all the time: its visitors' requests, memory, and wake-ups."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

from benchmarks import ebpf
from benchmarks.cpu import in_turn, per_cpu_second
from benchmarks.loads import Load
from benchmarks.site import Effort, Site
from benchmarks.table import Row, paired
from lab.answerer import THUMBPRINT, Answerer, answerer
from lab.processes import wait_until

CAPTURES = ("iptables", "ebpf")
NAME = "example.com"
MOST_MEMORY = 45
"""MiB."""
_SETTLED = 0.2
"""Seconds without a wake-up, after which a process has begun to wait."""
_UNTOUCHED, _AGAIN = "untouched", "untouched again"


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    """Yield what visitors get done in a second of CPU time, and what the program itself takes."""
    for name, load in ebpf.LOADS.items():
        yield from _requests(site, effort, name, load)
    for capture in CAPTURES:
        with _answering(site, capture) as running:
            yield from _of_process(running, capture, effort)


def _requests(site: Site, effort: Effort, name: str, load: Load) -> Iterator[Row]:
    def requests(way: str) -> float:
        with _answering(site, way) if way in CAPTURES else contextlib.nullcontext():
            return per_cpu_second(site, load, effort.seconds).throughput

    ways = (_UNTOUCHED, _AGAIN, *CAPTURES)
    measured = in_turn(effort.pairs, {way: functools.partial(requests, way) for way in ways})
    untouched, unit = measured[_UNTOUCHED], "requests/CPU s"
    yield paired(f"(m) answer, {name}: no difference", unit, untouched, measured[_AGAIN])
    for capture in CAPTURES:
        yield paired(f"(m) answer, {name}: {capture}", unit, untouched, measured[capture])


def _of_process(running: Answerer, capture: str, effort: Effort) -> Iterator[Row]:
    """Yield what an idle process takes; how long it is watched depends on the effort."""
    wait_until(lambda: not _wake_ups(running, _SETTLED), "it waits after its start")
    seconds = effort.pairs * effort.seconds
    wake_ups = _wake_ups(running, seconds)
    yield Row(f"(m) answer, idle: {capture}: wake-ups in a minute", "", wake_ups * 60 / seconds, at_most=0)
    yield Row(f"(m) answer: {capture}: memory", "MiB", running.memory() / 1024, at_most=MOST_MEMORY)


def _wake_ups(running: Answerer, seconds: float) -> int:
    """Return how often it wakes up in some seconds."""
    before = running.wakeups()
    time.sleep(seconds)  # what is measured is that nothing happens
    return running.wakeups() - before


def _answering(site: Site, capture: str) -> contextlib.AbstractContextManager[Answerer]:
    return answerer(site.server, NAME, arguments=("--thumbprint", THUMBPRINT, "--capture", capture))
