"""The figures, and the table of them: each with what it is held against, and whether it keeps to it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line: a figure without the plugin and with it, their ratio, the limit."""

    name: str
    unit: str
    value: float
    without: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    limits_ratio: bool = False
    """Whether the limit is the ratio's, rather than the value's."""

    @property
    def kept(self) -> bool:
        """Whether the figure is within its limit, if it has one."""
        figure = self.ratio if self.limits_ratio else self.value
        if figure is None:
            return True
        return (self.at_least is None or figure >= self.at_least) and (self.at_most is None or figure <= self.at_most)


def paired(
    name: str,
    unit: str,
    without: Sequence[float],
    value: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """Return the row for measurements taken in pairs; the ratio, which is limited, is the median of theirs."""
    ratio = statistics.median(on / off for on, off in zip(value, without))
    medians = statistics.median(value), statistics.median(without)
    return Row(name, unit, *medians, ratio, at_least=at_least, at_most=at_most, limits_ratio=True)


def percentile(values: Iterable[float], percent: int) -> float:
    """Return the smallest value that so many per cent of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def header() -> str:
    """Return the table's first lines, in Markdown."""
    return "| | unit | without | with | ratio | limit | kept |\n|---|---|---|---|---|---|---|"


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    limit = ""
    if row.at_least is not None:
        limit = f"≥ {row.at_least:g}"
    if row.at_most is not None:
        limit = f"≤ {row.at_most:g}"
    kept = ("yes" if row.kept else "NO") if limit else ""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    cells = [row.name, row.unit, figure(row.without), figure(row.value), ratio, limit, kept]
    return f"| {' | '.join(cells)} |"


def as_data(row: Row) -> dict[str, object]:
    """Return a row for the machine-readable file."""
    return {**dataclasses.asdict(row), "kept": row.kept}


def figure(value: float | None) -> str:
    """Return a number as the table shows it."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
