"""Measure everything: `scripts/benchmark`, or as root `python -m benchmarks` where all that is needed is installed.

Prints one table, in Markdown, and writes the figures to a file as JSON. Ends with status 1 if a limit is not kept.
With --against, measures another checkout of this project in turn with this one, and prints what changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import (
    always_on,
    bystanders,
    challenges,
    comparison,
    ebpf,
    endurance,
    handshakes,
    queries,
    start_and_stop,
    table,
)
from benchmarks.bystanders import Limits
from benchmarks.site import Effort, site
from benchmarks.table import Row

PREFILTERED = Limits(throughput=0.97, p99=1.10, queued=0)
WHOLE_PORT = Limits(throughput=0.25)


def prefilter(options: argparse.Namespace) -> Iterator[Row]:
    """With the prefilter, on a server whose firewall tracks connections."""
    yield from _everything("prefilter", PREFILTERED, options.effort)


def untracked(options: argparse.Namespace) -> Iterator[Row]:
    """With the prefilter, on a server that has not tracked connections before."""
    with site(stateful=False) as measured:
        for name in itertools.islice(bystanders.LOADS, 2):
            yield from bystanders.measure(measured, "prefilter", name, options.effort, Limits())


def captured(options: argparse.Namespace) -> Iterator[Row]:
    """By eBPF, on a server whose firewall tracks connections."""
    with site() as measured:
        yield from ebpf.requests_per_cpu_second(measured, options.effort)
        yield from ebpf.attaching(measured)
    yield from ebpf.packets()


def captured_untracked(options: argparse.Namespace) -> Iterator[Row]:
    """By eBPF, on a server that did not track connections before."""
    with site(stateful=False) as measured:
        yield from ebpf.requests_per_cpu_second(measured, options.effort)


def fallback(options: argparse.Namespace) -> Iterator[Row]:
    """(h) In the fallback: every packet of the port is queued."""
    yield from _everything("port", WHOLE_PORT, options.effort)


def pending(options: argparse.Namespace) -> Iterator[Row]:
    """With more and more pending tokens."""
    with site() as measured:
        yield from challenges.pending(measured, options.effort)


def flood(options: argparse.Namespace) -> Iterator[Row]:
    """Under a flood of requests for other tokens, from fifty connections."""
    with site() as measured:
        for capture in ("iptables", "ebpf"):
            yield from challenges.flood(measured, options.effort, capture)
        yield from challenges.flood_handed_over(measured, options.effort)


def name_server(options: argparse.Namespace) -> Iterator[Row]:
    """Past a name server, while a challenge of dns-01 is pending."""
    for capture in queries.KEPT:
        yield from queries.measure(options.effort, options.requests, capture)


def tls(options: argparse.Namespace) -> Iterator[Row]:
    """Past a server on port 443, while a challenge of tls-alpn-01 is pending."""
    yield from handshakes.measure(options.effort)


def answer(options: argparse.Namespace) -> Iterator[Row]:
    """With `answer`, which runs all the time, on a server whose firewall tracks connections."""
    with site() as measured:
        yield from always_on.measure(measured, options.effort)


def certbot(options: argparse.Namespace) -> Iterator[Row]:
    """Certbot itself."""
    yield from start_and_stop.measure(options.effort.pairs)


def endure(options: argparse.Namespace) -> Iterator[Row]:
    """Long runs."""
    with site() as measured:
        yield from endurance.requests_meanwhile(measured, options.requests)
    yield from endurance.cycles(options.cycles)


def _everything(selection: str, limits: Limits, effort: Effort) -> Iterator[Row]:
    with site() as measured:
        for name in bystanders.LOADS:
            yield from bystanders.measure(measured, selection, name, effort, limits)
        yield from challenges.latency(measured, selection)
        yield from challenges.rate(measured, selection, effort)


PARTS = {
    part.__name__: part
    for part in (
        prefilter,
        untracked,
        captured,
        captured_untracked,
        fallback,
        pending,
        flood,
        name_server,
        tls,
        answer,
        certbot,
        endure,
    )
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--pairs", type=int, default=11, help="measurements of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="seconds for each of them (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=1_000_000, help="in the long run (default: %(default)s)")
    parser.add_argument("--cycles", type=int, default=1_000, help="of the rules (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks.json"), help="file (default: %(default)s)")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout whose .venv can run its benchmark")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("this makes network namespaces, which takes root")
    options.parts = options.parts or list(PARTS)
    options.effort = Effort(options.pairs, options.seconds)
    return options


def _machine() -> dict[str, object]:
    versions = {name: importlib.metadata.version(name) for name in ("certbot", "scapy")}
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions,
        "queue client": "fnfqueue" if importlib.util.find_spec("fnfqueue") else "netlink",
    }


def _measure(options: argparse.Namespace) -> bool:
    """Measure, print, write; return whether all limits are kept."""
    rows: list[Row] = []
    data = {"machine": _machine(), "effort": dataclasses.asdict(options.effort)}
    for part in options.parts:
        print(f"\n{PARTS[part].__doc__}\n\n{table.header()}", flush=True)
        for row in PARTS[part](options):
            rows.append(row)
            print(table.line(row), flush=True)
        # Written after each part, so that a long run that is broken off has not been for nothing.
        options.output.write_text(json.dumps({**data, "rows": [table.as_data(row) for row in rows]}, indent=1) + "\n")
    print(f"\n{data['machine']}; {options.pairs} pairs of {options.seconds} seconds; figures in {options.output}")
    return all(row.kept for row in rows)


def _compare(options: argparse.Namespace) -> bool:
    """Measure both trees, print; return whether nothing is worse."""
    effort = [f"--{name}={getattr(options, name)}" for name in ("seconds", "requests", "cycles")]
    worse = 0
    for part in options.parts:
        print(f"\n{PARTS[part].__doc__}\n\n{comparison.HEADER}", flush=True)
        for compared in comparison.against(options.against.resolve(), part, options.pairs, effort):
            worse += compared.change == "worse"
            print(compared.line(), flush=True)
    print(f"\n{_machine()}; {options.pairs} pairs of {options.seconds} seconds")
    return not worse


def main() -> int:
    """Measure, or compare; return the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that hosts and processes are taken down
    good = _compare(options) if options.against else _measure(options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
