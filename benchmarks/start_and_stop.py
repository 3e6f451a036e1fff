"""What the plugin costs a run of Certbot: loading its entry point, `perform` from cold, `cleanup`, memory."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator

from benchmarks.table import Row
from lab import hosts
from lab.processes import run

_DROP_CACHES = "sync; echo 3 > /proc/sys/vm/drop_caches"


def measure(rounds: int) -> Iterator[Row]:
    """Yield the figures, each the median of as many fresh processes, in a network namespace of its own."""
    with hosts.host("b") as host, host.inside():
        warm = [_run() for _ in range(rounds)]
        cold = [_run(cold_disk=True) for _ in range(rounds)]
    yield _row("loading the entry point", [each["load"] for each in warm], 10)
    yield _row("prepare", [each["prepare"] for each in warm])
    yield _row("perform, modules in the disk cache", [each["perform"] for each in warm], 800)
    yield _row("perform, nothing in the disk cache", [each["perform"] for each in cold], 800)
    yield _row("cleanup", [each["cleanup"] for each in warm], 200)
    without, within = (statistics.median(each[key] for each in warm) for key in ("alone", "all"))
    yield Row("(g) peak memory of the process", "MiB", within, without, within / without)


def _run(*, cold_disk: bool = False) -> dict[str, float]:
    if cold_disk:
        run(["/bin/sh", "-c", _DROP_CACHES])
    figures: dict[str, float] = json.loads(run([sys.executable, "-m", "benchmarks.certbot_run"]))
    return figures


def _row(name: str, milliseconds: list[float], at_most: float | None = None) -> Row:
    return Row(f"(g) {name}", "ms", statistics.median(milliseconds), at_most=at_most)
