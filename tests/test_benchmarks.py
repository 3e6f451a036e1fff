"""The benchmark runs, each part of it at its smallest, and compares as it says."""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS
from benchmarks.comparison import HEADER, compare
from lab.processes import run

ROOT = Path(__file__).parent.parent
SMALLEST = ("--pairs=1", "--seconds=1", "--requests=1000", "--cycles=1")
SLOWER = [0.9, 0.91, 0.89, 0.92, 0.88, 0.9, 1.01]


def benchmark(*arguments: str) -> str:
    """Run the benchmark's program; a limit that so short a measurement does not keep to is no failure."""
    program = ("import sys; from benchmarks.__main__ import main; sys.exit(main() not in (0, 1))", *arguments)
    return run([sys.executable, "-c", *program], cwd=ROOT)


@pytest.mark.root
@pytest.mark.anywhere
@pytest.mark.parametrize("part", PARTS)
def test_each_part_measures_something_and_sees_no_failure(part: str, tmp_path: Path) -> None:
    printed = benchmark(part, *SMALLEST, f"--output={tmp_path / 'figures'}")
    rows = json.loads((tmp_path / "figures").read_text())["rows"]
    assert rows
    assert all(f"| {row['name']} |" in printed for row in rows)
    assert [row["name"] for row in rows if row["at_most"] == 0 and not row["kept"]] == []


@pytest.mark.root
@pytest.mark.anywhere
def test_two_trees_are_measured_in_turn_and_compared() -> None:
    printed = benchmark("certbot", *SMALLEST, f"--against={ROOT}")
    assert HEADER in printed
    assert "| (g) prepare | ms |" in printed


@pytest.mark.parametrize(("unit", "change"), [("requests/s", "worse"), ("ms", "better")])
def test_what_most_pairs_agree_on_is_a_change(unit: str, change: str) -> None:
    compared = compare("some load", unit, other=[1.0] * len(SLOWER), this=SLOWER)
    assert compared.interval == (0.88, 1.01)
    assert not compared.change
    steady = compare("some load", unit, other=[10.0] * 6, this=[value * 10 for value in SLOWER[:6]])
    assert steady.change == change
    assert steady.line().startswith(f"| some load | {unit} | 10 | 9 | 0.90 | 0.88 to 0.92 | {change} |")


def test_five_pairs_do_not_show_a_change() -> None:
    compared = compare("some load", "ms", other=[1.0] * 5, this=[2.0] * 5)
    assert (compared.ratio, compared.interval, compared.change) == (2, None, "")


@pytest.mark.parametrize(("unit", "other"), [("", [1.0] * 6), ("MiB", [0.0] * 6)])
def test_counts_and_zeros_have_no_ratio(unit: str, other: list[float]) -> None:
    compared = compare("failures", unit, other, [3.0] * 6)
    assert (compared.this, compared.ratio, compared.change) == (3, None, "")


@pytest.mark.parametrize("pairs", [6, 9, 11, 20])
def test_the_interval_holds_the_true_median_in_19_of_20_experiments(pairs: int) -> None:
    chance = random.Random(pairs)
    held = 0
    for _ in range(2000):
        noise = [chance.lognormvariate(0, 0.1) for _ in range(pairs)]
        interval = compare("some load", "ms", [1.0] * pairs, noise).interval
        assert interval
        assert interval[0] <= statistics.median(noise) <= interval[1]
        held += interval[0] <= 1 <= interval[1]
    assert held >= 1900
