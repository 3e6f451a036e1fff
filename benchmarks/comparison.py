"""This tree against another, measured in turn: what changed between them, and how sure that is."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import figure
from lab.processes import running

Figures = dict[tuple[str, str], float]
"""By name and unit."""
_HERE = Path(__file__).parent.parent
_CONFIDENCE = 0.95
_MORE_IS_BETTER = ("requests/s", "MB/s", "1/s")
HEADER = "| | unit | other | this | ratio | 95% interval | |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Comparison:
    """A row of both trees' tables: the medians, and the ratio of this tree's figure to the other's."""

    name: str
    unit: str
    other: float
    this: float
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    """Where the median of the ratios lies with 95% confidence; it takes six pairs to say so."""

    @property
    def change(self) -> str:
        """Whether this tree is `better` or `worse` by more than the noise; else nothing."""
        if self.ratio is None or self.interval is None or self.interval[0] <= 1 <= self.interval[1]:
            return ""
        return "better" if (self.ratio > 1) == (self.unit in _MORE_IS_BETTER) else "worse"

    def line(self) -> str:
        """Return the line of the table."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        interval = "{:.2f} to {:.2f}".format(*self.interval) if self.interval else ""
        cells = (self.name, self.unit, figure(self.other), figure(self.this), ratio, interval, self.change)
        return f"| {' | '.join(cells)} |"


def compare(name: str, unit: str, other: Sequence[float], this: Sequence[float]) -> Comparison:
    """Compare figures taken in pairs. Mere counts, which have no unit, and zeros have no ratio."""
    medians = statistics.median(other), statistics.median(this)
    if not unit or not all(other):
        return Comparison(name, unit, *medians)
    ratios = sorted(mine / others for mine, others in zip(this, other))
    return Comparison(name, unit, *medians, statistics.median(ratios), _interval(ratios))


def against(other: Path, part: str, pairs: int, options: Sequence[str]) -> Iterator[Comparison]:
    """Measure a part in both trees, each pair in the other order than the one before, and compare row by row.

    Rows that one tree alone has are left out.
    """
    measured: dict[Path, list[Figures]] = {_HERE: [], other: []}
    for pair in range(pairs):
        for tree in (_HERE, other)[:: 1 if pair % 2 else -1]:
            measured[tree].append(_measure(tree, part, options))
    for row in measured[_HERE][0]:
        if row in measured[other][0]:
            yield compare(*row, *([figures[row] for figures in measured[tree]] for tree in (other, _HERE)))


def _measure(tree: Path, part: str, options: Sequence[str]) -> Figures:
    """Measure a part once in a tree, by its own program. A limit that is not kept is no failure."""
    python = sys.executable if tree == _HERE else str(tree / ".venv" / "bin" / "python")
    with tempfile.NamedTemporaryFile("r", suffix=".json") as output:
        command = [python, "-m", "benchmarks", part, "--pairs", "1", *options, "--output", output.name]
        with running(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            _, errors = process.communicate()
        report = output.read()
    if not report:
        raise RuntimeError(f"{' '.join(command)} in {tree}: status {process.returncode}\n{errors}")
    return {(row["name"], row["unit"]): row["value"] for row in json.loads(report)["rows"]}


def _interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """Return the narrowest interval between two values, equally far from the ends, that holds the median so surely.

    Each value is above the median with probability one half, so how many are is distributed binomially.
    """
    count, left_out = len(ordered), 0
    beyond = 1 / 2**count
    while beyond * 2 <= 1 - _CONFIDENCE:
        left_out += 1
        beyond += math.comb(count, left_out) / 2**count
    return (ordered[left_out - 1], ordered[-left_out]) if left_out else None
