"""Test on emulated kernels and print the matrix; the exit status is 1 if anything in it failed."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import scripts.kernels
from scripts.kernels.debian import fetch_kernel
from scripts.kernels.emulation import Machine, make_disk
from scripts.kernels.report import HEADINGS, Row, line

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "sid": "sid"}
IN_SHORT = ("5.10", "6.12")
FIREWALLS = ("iptables-nft", "iptables-legacy", "nftables")
EACH = "each"
ISSUANCE = "tests/e2e/test_certbot.py::test_a_certificate_is_issued_over_both_families_by_each_firewall"
_MEBIBYTES = 2  # that bystanders load: emulation is slow


@dataclass(frozen=True)
class Selection:
    """Which tests are run on each kernel, and how long all that may take there."""

    rounds: dict[str, tuple[str, ...]]
    """Options of pytest, by the firewall that is used; EACH is for tests that use one after the other by themselves."""
    seconds: float


_POSSIBLE = ("-m", "not anywhere and not heavy")
_BY_THEMSELVES = (
    "tests/netns/test_fallback_listener.py",
    "tests/netns/test_proxied.py::test_only_a_text_header_has_iptables_queue_a_bystander",
)
_PARTS = ("tests/capture", "tests/host", "tests/session", "tests/cli/doctor/test_network_namespace.py")
_WITH_ONE = (*_POSSIBLE, "tests/netns", ISSUANCE, *(f"--deselect={each}" for each in _BY_THEMSELVES))
ALL = Selection({**dict.fromkeys(FIREWALLS, _WITH_ONE), EACH: (*_POSSIBLE, *_PARTS, *_BY_THEMSELVES)}, 3 * 3600)
ESSENTIAL = Selection(dict.fromkeys(FIREWALLS, ("-m", "essential", "tests/netns", ISSUANCE)), 1200)


def main() -> int:
    """Run what is asked for, print the matrix, return the exit status."""
    arguments = _arguments()
    names = arguments.kernels or (IN_SHORT if arguments.short else list(SUITES))
    selection = ESSENTIAL if arguments.short else ALL
    more = ("-k", arguments.k) if arguments.k else ()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with _folder(arguments.keep) as folder:
        rows = _matrix(names, selection, more, folder)
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
    parser.add_argument("-k", metavar="EXPRESSION", help="of these tests, those that pytest selects by this")
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


def _matrix(names: Sequence[str], selection: Selection, more: Sequence[str], folder: Path) -> list[Row]:
    """Run all kernels, as many at a time as there are processors."""
    machines: list[Machine] = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
        try:
            fetched = [workers.submit(fetch_kernel, SUITES[name], folder / name) for name in names]
            disk = make_disk(folder)
            machines += [Machine(each.result(), disk, folder / name / "shared") for name, each in zip(names, fetched)]
            running = [workers.submit(_run, machine, selection, more) for machine in machines]
            return [row for each in running for row in each.result()]
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            for machine in machines:
                machine.stop()
            raise


def _run(machine: Machine, selection: Selection, more: Sequence[str]) -> list[Row]:
    """Run the tests on a machine, with one firewall after the other; return a row for each."""
    commands = [_command(firewall, machine.folder, *options, *more) for firewall, options in selection.rounds.items()]
    problem = ""
    try:
        machine.run(commands, selection.seconds)
    except TimeoutError as error:
        problem = str(error)
    rows = [_row(machine, firewall, problem) for firewall in selection.rounds]
    print(*rows, sep="\n", file=sys.stderr, flush=True)
    return rows


def _command(firewall: str, folder: Path, *options: str) -> list[str]:
    """Return the command that tests with a firewall, and leaves a report."""
    only = "" if firewall == EACH else firewall
    return [
        *("env", f"NFQ_FIREWALL={only}", f"NFQ_MEBIBYTES={_MEBIBYTES}", sys.executable, "-m", "pytest", "-v"),
        *(
            "-p",
            "no:cacheprovider",
            "--basetemp=/run/pytest",
            "--durations=20",
            f"--junitxml={_report(folder, firewall)}",
        ),
        *options,
    ]


def _report(folder: Path, firewall: str) -> Path:
    return folder / f"{firewall}.xml"


def _row(machine: Machine, firewall: str, problem: str) -> Row:
    row, report = Row(machine.kernel.release, firewall), _report(machine.folder, firewall)
    return row.with_report(report) if report.exists() else row.with_problem(f"{problem}\n{_end_of(machine)}")


def _end_of(machine: Machine) -> str:
    """Return the last of what a machine printed, from before or after the tests began."""
    printed = [machine.folder / "output.txt", machine.folder / "console.txt"]
    return "\n".join(line for path in printed if path.exists() for line in _last_lines(path))


def _last_lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-20:]


if __name__ == "__main__":
    raise SystemExit(main())
