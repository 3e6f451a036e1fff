"""What came of the tests on a kernel: the rows of the matrix, from pytest's reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

HEADINGS = ("Kernel", "Firewall", "Tests", "Network suite", "Parts", "Issuance", "Seconds")
_NETWORK_SUITE, _ISSUANCE = "tests.netns.", "tests.e2e."


@dataclass(frozen=True)
class Case:
    """One test's outcome; the problem is empty if it passed. Here a test that is skipped has not passed."""

    name: str
    problem: str

    @classmethod
    def of(cls, element: ElementTree.Element) -> Case:
        """Read it from a report."""
        bad = [child for child in element if child.tag in ("failure", "error", "skipped")]
        problems = [f"{child.tag}: {child.get('message')}\n{child.text}" for child in bad]
        return cls(f"{element.get('classname')}::{element.get('name')}", "\n".join(problems))


@dataclass(frozen=True)
class Count:
    """How many tests passed and failed."""

    passed: int = 0
    failed: int = 0

    @classmethod
    def of(cls, cases: Iterable[Case]) -> Count:
        """Count them."""
        problems = [bool(case.problem) for case in cases]
        return cls(problems.count(False), problems.count(True))

    def __str__(self) -> str:
        if not self.passed + self.failed:
            return "-"
        return f"{self.passed} passed" + (f", {self.failed} FAILED" if self.failed else "")


@dataclass(frozen=True)
class Row:
    """What came of one run of pytest on a kernel."""

    kernel: str
    firewall: str
    selected: str
    network: Count = field(default_factory=Count)
    parts: Count = field(default_factory=Count)
    issuance: Count = field(default_factory=Count)
    seconds: float = 0
    problem: str = ""

    @property
    def tested(self) -> bool:
        """Whether there were tests."""
        return any(count != Count() for count in (self.network, self.parts, self.issuance))

    @property
    def good(self) -> bool:
        """Whether there were tests and all of them passed."""
        return self.tested and not self.problem

    def with_report(self, report: Path, seconds: float) -> Row:
        """Return it with what a report counts, with what did not pass, and with how long it took."""
        (suite,) = ElementTree.parse(report).iter("testsuite")
        cases = [Case.of(case) for case in suite.iter("testcase")]
        problem = "\n\n".join(f"{case.name}\n{case.problem}" for case in cases if case.problem)
        network, issuance = (_within(folder, cases) for folder in (_NETWORK_SUITE, _ISSUANCE))
        parts = [case for case in cases if case not in network + issuance]
        return dataclasses.replace(
            self,
            network=Count.of(network),
            parts=Count.of(parts),
            issuance=Count.of(issuance),
            seconds=seconds,
            problem=problem,
        )

    def with_problem(self, problem: str) -> Row:
        """Return it with what went wrong where there is no report."""
        return dataclasses.replace(self, problem=problem)

    def __str__(self) -> str:
        counts = (self.network, self.parts, self.issuance)
        return line(self.kernel, self.firewall, self.selected, *counts, f"{self.seconds:.0f}")


def _within(folder: str, cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.name.startswith(folder)]


def line(*cells: object) -> str:
    """Return a line of the matrix."""
    return f"| {' | '.join(map(str, cells))} |"
