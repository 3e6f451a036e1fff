"""What bystanders notice: the same load with the interception and without, in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import loads
from benchmarks.loads import Load, Result, softirq_seconds
from benchmarks.site import Effort, Site
from benchmarks.table import Row, paired

LOADS: dict[str, tuple[str, float, Load]] = {
    "(a) kept connections": ("requests/s", 1, loads.kept),
    "(b) a connection a request": ("requests/s", 1, loads.opened),
    "(c) one upload": ("MB/s", 1e-6, loads.upload),
    "(c) one download": ("MB/s", 1e-6, loads.download),
    "(d) 100 slow clients": ("requests/s", 1, loads.slow),
}
"""By name: the unit of throughput, the factor to it, and the load."""


@dataclass(frozen=True)
class Limits:
    """What is to be kept: the ratio of throughput at least, that of the 99th percentile and the packets at most."""

    throughput: float | None = None
    p99: float | None = None
    queued: int | None = None


def measure(site: Site, selection: str, name: str, effort: Effort, limits: Limits) -> Iterator[Row]:
    """Yield the rows for one load. Each pair of measurements is taken in the other order than the one before."""
    unit, factor, load = LOADS[name]
    without: list[Result] = []
    within: list[Result] = []
    queued = 0
    for pair in range(effort.pairs):
        for intercepted in (False, True) if pair % 2 else (True, False):
            if not intercepted:
                without.append(_run(load, site, effort.seconds))
                continue
            with site.intercepting(selection=selection):
                within.append(_run(load, site, effort.seconds))
                queued += site.queued()
    off, on = ([result.throughput * factor for result in results] for results in (without, within))
    yield paired(f"{name}: throughput", unit, off, on, at_least=limits.throughput)
    for percentile in ("p50", "p99"):
        off, on = ([getattr(result, percentile) for result in results] for results in (without, within))
        if None not in off:
            yield paired(f"{name}: {percentile}", "ms", off, on, at_most=limits.p99 if percentile == "p99" else None)
    off, on = ([result.softirq for result in results] for results in (without, within))
    if all(off):
        yield paired(f"{name}: softirq", "CPU s", off, on)
    yield Row(f"{name}: failures", "", sum(result.failures for result in within), at_most=0)
    yield Row(f"{name}: packets queued", "", queued, at_most=limits.queued)


def _run(load: Load, site: Site, seconds: int) -> Result:
    before = softirq_seconds()
    result = load(site, seconds)
    return dataclasses.replace(result, softirq=softirq_seconds() - before)
