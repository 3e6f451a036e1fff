"""What capturing by eBPF costs: requests for each second of CPU, single packets, attaching and detaching.

Throughput on a machine that others use, too, varies by more than is to be measured. So what counts here is how many
requests the client and the server get done in a second of CPU time, everything that the kernel does for them included.
Beside it stands what the same measurement makes of no difference at all.
"""

from __future__ import annotations

import contextlib
import random
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import loads
from benchmarks.loads import Load
from benchmarks.site import Effort, Site
from benchmarks.table import Row, paired
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.wire.tcp import Flags, Segment, Timestamps, write
from lab.ebpf import bench, framed, run
from lab.http import PAGE_REQUEST, request
from lab.interceptor import TOKEN
from lab.processes import children

LOADS: dict[str, Load] = {"(a) kept connections": loads.kept, "(b) a connection a request": loads.opened}
AT_LEAST = 0.97
_REPEATED = 50_000
_TRIES = 7
_CYCLES = 20
_UNTOUCHED, _AGAIN, _ALONE, _CAPTURED = "untouched", "untouched again", "captured, not watched", "captured"
_WAYS = {_ALONE: {"evidence": False}, _CAPTURED: {"evidence": True}}


def requests_per_cpu_second(site: Site, effort: Effort) -> Iterator[Row]:
    """Yield how much bystanders get done: each round measures all in turn, in a new order."""
    for name, load in LOADS.items():
        measured: dict[str, list[float]] = {_UNTOUCHED: [], _AGAIN: [], _ALONE: [], _CAPTURED: []}
        for _ in range(effort.pairs):
            for which in random.sample(list(measured), len(measured)):
                with contextlib.ExitStack() as during:
                    if which in _WAYS:
                        during.enter_context(site.intercepting(capture="ebpf", **_WAYS[which]))
                    measured[which].append(_per_cpu_second(site, load, effort.seconds))
        untouched = measured[_UNTOUCHED]
        yield paired(f"{name}: no difference", "requests/CPU s", untouched, measured[_AGAIN])
        yield paired(f"{name}: eBPF alone", "requests/CPU s", untouched, measured[_ALONE], at_least=AT_LEAST)
        yield paired(f"{name}: eBPF and the tap", "requests/CPU s", untouched, measured[_CAPTURED])


def packets() -> Iterator[Row]:
    """Yield what one packet costs of each kind: what the program takes longer than one that does nothing."""
    data = Flags.PSH | Flags.ACK
    bare = Segment("192.0.2.1", 40000, "192.0.2.80", 80, 1000, 5000, Flags.ACK, 500, b"", Timestamps(1, 2))
    arriving = {
        "another port's": replace(bare, flags=data, destination_port=443, payload=bytes(1000)),
        "SYN": replace(bare, flags=Flags.SYN),
        "acknowledgment": bare,
        "a page's request": replace(bare, flags=data, payload=PAGE_REQUEST),
        "1,400 bytes of an upload": replace(bare, flags=data, payload=bytes(1400)),
        "a request for a token that is not pending": replace(bare, flags=data, payload=request("x" * len(TOKEN))),
    }
    server = replace(bare, source_port=80, destination_port=40000, flags=data)
    leaving = {
        "another port's": replace(server, source_port=443, payload=bytes(1000)),
        "1,000 bytes of a page": replace(server, payload=bytes(1000)),
        "SYN-ACK": replace(server, flags=Flags.SYN | Flags.ACK),
    }
    with bench(Http01Solver.selectors(80)) as loaded:
        loaded.expect(f"{TOKEN} HTTP/1.".encode())
        for way, program, segments in (
            ("arriving", loaded.programs.ingress(14), arriving),
            ("leaving", loaded.programs.egress(14), leaving),
        ):
            nothing = min(_nanoseconds(program, segments["another port's"]) for _ in range(_TRIES))
            for name, segment in segments.items():
                taken = min(_nanoseconds(program, segment) for _ in range(_TRIES))
                yield Row(f"{way}: {name}", "ns", max(0, taken - nothing))


def attaching(site: Site) -> Iterator[Row]:
    """Yield how long it takes to begin and to end, loading the programs included."""
    begun, ended = [], []
    with site.server.inside():
        for _ in range(_CYCLES):
            begin = time.perf_counter()
            capture = EbpfBackend().open(Http01Solver.selectors(80), contextlib.ExitStack())
            opened = time.perf_counter()
            capture.close()
            begun.append(opened - begin)
            ended.append(time.perf_counter() - opened)
    yield Row("to begin", "ms", statistics.median(begun) * 1000)
    yield Row("to end", "ms", statistics.median(ended) * 1000)


def _nanoseconds(program: int, segment: Segment) -> int:
    return run(program, framed(write(segment)), _REPEATED).nanoseconds


def _per_cpu_second(site: Site, load: Load, seconds: int) -> float:
    before = _cpu_seconds(site)
    result = load(site, seconds)
    return result.throughput * seconds / (_cpu_seconds(site) - before)


def _cpu_seconds(site: Site) -> float:
    """Return the CPU time of clients that have ended, and of the server's workers."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = children(site.nginx.process.pid)
    nanoseconds = (int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) for pid in workers)
    return ended.ru_utime + ended.ru_stime + sum(nanoseconds) / 1e9
