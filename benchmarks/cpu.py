"""How much gets done in a second of CPU time, which other work on the machine disturbs less than throughput.

It is that of the client and the server, with everything that the kernel does for them.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.loads import Result
from benchmarks.site import Site
from lab.processes import children


def per_cpu_second(site: Site, load: Callable[[Site, int], Result], seconds: int) -> Result:
    """Return what a load got done, with the throughput for each second of CPU time in place of each second."""
    workers = children(site.nginx.process.pid)
    before = cpu_seconds(workers)
    result = load(site, seconds)
    return Result(result.throughput * seconds / (cpu_seconds(workers) - before), failures=result.failures)


def in_turn(rounds: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure in each of several ways, so many rounds, each in a new order."""
    measured: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in random.sample(list(ways), len(ways)):
            measured[way].append(ways[way]())
    return measured


def cpu_seconds(serving: Iterable[int]) -> float:
    """Return the CPU time of clients that have ended, and of the server's processes, given their ids."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    nanoseconds = (int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) for pid in serving)
    return ended.ru_utime + ended.ru_stime + sum(nanoseconds) / 1e9
