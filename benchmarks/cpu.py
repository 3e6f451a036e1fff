"""How much gets done in a second of CPU time, which other work on the machine disturbs less than throughput.

It is that of the client and the server, with everything that the kernel does for them.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.loads import Result
from benchmarks.site import Site
from lab.processes import children


def per_cpu_second(site: Site, load: Callable[[Site, int], Result], seconds: int) -> Result:
    """Return what a load got done, with the throughput for each second of CPU time in place of each second."""
    before = _cpu_seconds(site)
    result = load(site, seconds)
    return Result(result.throughput * seconds / (_cpu_seconds(site) - before), failures=result.failures)


def in_turn(rounds: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure in each of several ways, so many rounds, each in a new order."""
    measured: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in random.sample(list(ways), len(ways)):
            measured[way].append(ways[way]())
    return measured


def _cpu_seconds(site: Site) -> float:
    """Return the CPU time of clients that have ended, and of the server's workers."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = children(site.nginx.process.pid)
    nanoseconds = (int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) for pid in workers)
    return ended.ru_utime + ended.ru_stime + sum(nanoseconds) / 1e9
