"""Change the pure folders in small ways, one at a time, and show which changes no test notices.

The exit status is 1 if the tests notice fewer than nine in ten of the changes that make a difference.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scripts.mutation import equivalent, trial
from scripts.mutation.mutants import Mutant, mutants

_ROOT = Path(__file__).parents[2]
_PACKAGE = "certbot_standalone_nfq"
PURE = ("wire", "engine", "challenges", "diagnosis")
_TESTS = tuple(f"tests/{folder}" for folder in PURE)
_AT_LEAST = 90


def main() -> int:
    """Do what is asked for; return the exit status."""
    arguments = _arguments()
    os.chdir(_ROOT)
    trial.load()
    known = equivalent.entries()
    found = [mutant for path in _sources(arguments.paths) for mutant in mutants(str(path), path.read_text())]
    tried = [mutant for mutant in found if not any(entry.matches(mutant) for entry in known)]
    tasks = [trial.Task(mutant, [arguments.tests] if arguments.tests else _rounds(mutant)) for mutant in tried]
    limit = trial.seconds_for(arguments.tests or _TESTS) * 3 + 5
    begin = time.monotonic()
    survivors = list(_shown(trial.survivors(_counted(tasks), arguments.processes, limit)))
    print(_table(found, tried, survivors), f"{time.monotonic() - begin:.0f} seconds", sep="\n")
    return int(100 * len(survivors) > (100 - _AT_LEAST) * len(tried))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument(
        "paths", nargs="*", type=Path, default=[_ROOT / _PACKAGE / folder for folder in PURE],
        help="files or folders below the pure ones (default: all of them)",
    )  # fmt: skip
    parser.add_argument("--tests", nargs="+", help="the tests that are to notice (default: all of the pure folders)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once (default: one a core)")
    return parser.parse_args()


def _sources(paths: Sequence[Path]) -> list[Path]:
    """Return the source files that these are or hold, relative to the project's folder."""
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return [file.resolve().relative_to(_ROOT) for file in files]


def _rounds(mutant: Mutant) -> list[Sequence[str]]:
    """Return the tests of the mutant's file, then those of all pure folders."""
    path = Path("tests", *Path(mutant.path).parts[1:])
    own = path.with_name(f"test_{path.name}")
    return [[str(own)], _TESTS] if own.exists() else [_TESTS]


def _counted(tasks: list[trial.Task]) -> Iterator[trial.Task]:
    """Say on a terminal how far it has come."""
    for number, task in enumerate(tasks, start=1):
        if sys.stderr.isatty():
            print(f"\r{number} of {len(tasks)} ", end="", file=sys.stderr)
        yield task


def _shown(survivors: Iterable[trial.Task]) -> Iterator[Mutant]:
    """Print the mutants that survive as each is found."""
    for task in survivors:
        if task.mutant:
            print(task.mutant.diff(), end="\n\n", flush=True)
            yield task.mutant


def _table(found: list[Mutant], tried: list[Mutant], survivors: list[Mutant]) -> str:
    made, different, survived = (_count(each) for each in (found, tried, survivors))
    lines = ["| folder | mutants | equivalent | survive | killed |", "|---|---|---|---|---|"]
    for folder in made:
        killed = f"{100 - 100 * survived[folder] / different[folder]:.1f}%" if different[folder] else "-"
        row = (folder, made[folder], made[folder] - different[folder], survived[folder], killed)
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def _count(some: list[Mutant]) -> Counter[str]:
    folders = Counter(Path(mutant.path).parts[1] for mutant in some)
    return folders + Counter({"all": len(some)})


if __name__ == "__main__":
    sys.exit(main())
