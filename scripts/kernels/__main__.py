"""Test on emulated kernels and print the matrix; the exit status is 1 if anything in it failed."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import scripts.kernels
from scripts.kernels.debian import fetch_kernel
from scripts.kernels.emulation import Machine, make_disk
from scripts.kernels.report import HEADINGS, Row, line
from scripts.kernels.selection import IN_SHORT, SUITES, Round, short_rounds, whole_rounds

_MEBIBYTES = 2  # that bystanders load: emulation is slow
_SECONDS = 2 * 3600  # that a kernel may take for all of its tests
_SHORT_SECONDS = 1200


def main() -> int:
    """Run what is asked for, print the matrix, return the exit status."""
    arguments = _arguments()
    names = arguments.kernels or (IN_SHORT if arguments.short else list(SUITES))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with _folder(arguments.keep) as folder:
        rows = _matrix(names, arguments.short, arguments.k, folder)
    if arguments.k:
        rows = [row for row in rows if row.tested or row.problem]
    print(line(*HEADINGS), line(*("---" for _ in HEADINGS)), *rows, sep="\n")
    for row in rows:
        if row.problem:
            print(f"\n{row.kernel}, {row.firewall}: {row.problem}")
    return 0 if rows and all(row.good for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-kernels", description=scripts.kernels.__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"of {', '.join(SUITES)}; without any, all")
    parser.add_argument("--short", action="store_true", help=f"the essential tests, on {' and '.join(IN_SHORT)}")
    parser.add_argument(
        "-k", metavar="EXPRESSION", default="", help="of these tests, those that pytest selects by this"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave kernels, output and reports in a new folder")
    arguments = parser.parse_args()
    unknown = set(arguments.kernels) - set(SUITES)
    if unknown:
        parser.error(f"no such kernel: {', '.join(sorted(unknown))}")
    return arguments


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder:
        yield Path(folder)


def _matrix(names: Sequence[str], short: bool, named: str, folder: Path) -> list[Row]:
    """Run all kernels, two at a time for each processor: a machine that waits leaves it to another."""
    machines: list[Machine] = []
    with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as workers:
        try:
            fetched = [workers.submit(fetch_kernel, SUITES[name], folder / name) for name in names]
            disk = make_disk(folder)
            machines += [Machine(each.result(), disk, folder / name / "shared") for name, each in zip(names, fetched)]
            rounds = [short_rounds() if short else whole_rounds(name) for name in names]
            seconds = _SHORT_SECONDS if short else _SECONDS
            running = [workers.submit(_run, *each, named, seconds) for each in zip(machines, rounds)]
            return [row for each in running for row in each.result()]
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            for machine in machines:
                machine.stop()
            raise


def _run(machine: Machine, rounds: Sequence[Round], named: str, seconds: float) -> list[Row]:
    """Run the tests on a machine, one round after the other; return a row for each."""
    began, problem = time.time(), ""
    try:
        machine.run([_command(each, machine.folder, named) for each in rounds], seconds)
    except TimeoutError as error:
        problem = str(error)
    rows = list(_rows(machine, rounds, began, problem))
    print(*rows, sep="\n", file=sys.stderr, flush=True)
    return rows


def _command(round_: Round, folder: Path, named: str) -> list[str]:
    """Return the command that runs a round, and leaves a report."""
    expression = " and ".join(f"({each})" for each in (round_.named, named) if each)
    return [
        *("env", f"NFQ_CAPTURE={round_.firewall}", f"NFQ_MEBIBYTES={_MEBIBYTES}"),
        *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--basetemp=/run/pytest", "--durations=20"),
        *(f"--junitxml={_report(folder, round_)}", *round_.options, "-k", expression),
    ]


def _report(folder: Path, round_: Round) -> Path:
    return folder / f"{round_.name}.xml"


def _rows(machine: Machine, rounds: Sequence[Round], began: float, problem: str) -> Iterator[Row]:
    """Yield what came of each round. It took from the report before to its own: the machine has another clock."""
    for each in rounds:
        row, report = Row(machine.kernel.release, each.name, each.selected), _report(machine.folder, each)
        if report.exists():
            ended = report.stat().st_mtime
            yield row.with_report(report, ended - began)
            began = ended
        else:
            yield row.with_problem(f"{problem}\n{_end_of(machine)}")


def _end_of(machine: Machine) -> str:
    """Return the last of what a machine printed, from before or after the tests began."""
    printed = [machine.folder / "output.txt", machine.folder / "console.txt"]
    return "\n".join(line for path in printed if path.exists() for line in _last_lines(path))


def _last_lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-20:]


if __name__ == "__main__":
    raise SystemExit(main())
