"""Kill, look, and print what was found; fail if anything was left or anybody was hurt."""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import scripts.kills
from lab import hosts
from lab.interceptor import EBPF, VARIANTS
from lab.nginx import nginx
from lab.processes import running
from scripts.kills.bystanders import Bystander
from scripts.kills.campaign import EBPF_BY_STUB, PHASES, Victim, Way, points

_PROGRESS = 100


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-kills", description=scripts.kills.__doc__)
    parser.add_argument("--points", type=int, default=2000, metavar="NUMBER", help="how many kills (default: 2000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further one after so many")
    parser.add_argument(
        "--capture",
        choices=[*VARIANTS, *EBPF, EBPF_BY_STUB],
        action="append",
        help=f"by what; {EBPF_BY_STUB} is eBPF as before Linux 6.6 (default: each firewall)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="NUMBER", help="of the random moments (default: 1)")
    arguments = parser.parse_args()
    arguments.capture = arguments.capture or VARIANTS
    return arguments


def main() -> int:
    """Kill; return the exit status."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # what was made is to be taken away then too
    end = time.monotonic() + arguments.seconds
    tried: Counter[tuple[Way, str]] = Counter()
    faults: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client, server = stack.enter_context(hosts.pair())
        stack.enter_context(nginx(server, folder / "nginx"))
        command = server.command(sys.executable, "-m", "scripts.kills.victim")
        errors = stack.enter_context((folder / "errors").open("w+"))
        process = stack.enter_context(running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors))
        victim = Victim(process, server, client)
        for capture in arguments.capture:
            victim.measure(capture)
        bystanders = [Bystander(client, at, keep=keep) for at in (server.ipv4, server.ipv6) for keep in (True, False)]
        for bystander in bystanders:
            bystander.start()
        for point in points(arguments.points, arguments.capture, random.Random(arguments.seed), victim.durations):
            if time.monotonic() > end:
                break
            left = victim.kill(point)
            tried[point.way, point.phase] += 1
            if sum(tried.values()) % _PROGRESS == 0:
                print(f"{sum(tried.values())} kills", flush=True)
            if left:
                faults.append(f"{point}: {left}")
                print(faults[-1], flush=True)
        for bystander in bystanders:
            bystander.end()
    return _report(tried, faults, victim, bystanders)


def _report(tried: Counter[tuple[Way, str]], faults: list[str], victim: Victim, bystanders: list[Bystander]) -> int:
    for way in Way:
        print(f"{way.value:26}", *(f"{phase} {tried[way, phase]:5}" for phase in PHASES), sep="  ")
    failures = [failure for bystander in bystanders for failure in bystander.failures]
    print(f"{sum(tried.values())} kills; something was left after {len(faults)}")
    print(f"times that performing failed before the kill: {victim.refused}")
    print(f"rules or filters left, which did nothing and the next run removed: {victim.left_for_the_next}")
    print(
        f"{sum(each.requests for each in bystanders)} requests of bystanders, of which {len(failures)} failed; "
        f"the slowest took {max(each.slowest for each in bystanders):.2f} seconds"
    )
    print(*Counter(failures), sep="\n", end="\n" if failures else "")
    return 1 if faults or failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
