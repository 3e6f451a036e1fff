"""Fill the table of releases and ways to install; the exit status is 1 if anything in it failed."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import scripts.distros
from scripts.distros.installations import ByPackage, ByPip, Installation
from scripts.distros.releases import Release, releases
from scripts.distros.rootfs import Workshop, workshop
from scripts.distros.steps import DISTRIBUTIONS, STEPS
from scripts.distros.trial import Distribution, trial

_KNOWN = ", ".join(distribution.name for distribution in DISTRIBUTIONS)
_HEADINGS = ("Distribution", *STEPS, "Seconds")


@dataclass
class Row:
    """What came of a trial."""

    distribution: Distribution
    installation: Installation
    cells: list[str] = field(default_factory=list)
    failed: bool = False
    seconds: float = 0

    def fill(self, made: Workshop, former: Release, current: Release) -> None:
        """Do all the steps, up to the first that fails, whose output is shown."""
        begin = time.monotonic()
        try:
            with trial(self.distribution, self.installation, made, former, current) as under_way:
                for heading, step in STEPS.items():
                    self.cells.append(step(under_way))
                    self._tell(f"{heading}: {self.cells[-1]}, after {time.monotonic() - begin:.1f} seconds")
        except Exception as error:  # the other rows are to be filled all the same
            self.failed = True
            self.cells.append("FAILED")
            self._tell(f"FAILED: {error}\n{getattr(error, 'stdout', None) or ''}")
        self.seconds = time.monotonic() - begin

    def _tell(self, what: str) -> None:
        print(f"{self.distribution.name} by {self.installation.name}: {what}", flush=True)

    def line(self) -> str:
        """Return the line of the table."""
        missing = ["-"] * (len(STEPS) - len(self.cells))
        return _line(self.distribution.name, *self.cells[: len(STEPS)], *missing, f"{self.seconds:.0f}")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _distribution(name: str) -> Distribution:
    for known in DISTRIBUTIONS:
        if known.name == name:
            return known
    raise argparse.ArgumentTypeError(f"{name} is none of {_KNOWN}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-distros", description=scripts.distros.__doc__)
    add = parser.add_argument
    add("distributions", nargs="*", type=_distribution, default=DISTRIBUTIONS, metavar="NAME", help=f"any of {_KNOWN}")
    add("--keep", type=Path, metavar="FOLDER", help="keep what was downloaded here, for other runs")
    return parser.parse_args()


def main() -> int:
    """Fill the table; return the exit status."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # what was made is to be taken away then too
    with tempfile.TemporaryDirectory() as scratch, workshop(arguments.keep or Path(scratch) / "kept") as made:
        former, current = releases(Path(scratch))
        rows = [Row(each, installation()) for each in arguments.distributions for installation in (ByPackage, ByPip)]
        for row in rows:
            row.fill(made, former, current)
    print(f"\nOn {platform.system()} {platform.release()}:\n")
    print("\n".join([_line(*_HEADINGS), _line(*["---"] * len(_HEADINGS)), *(row.line() for row in rows)]))
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
