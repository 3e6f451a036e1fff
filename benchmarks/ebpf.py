"""What capturing by eBPF costs: requests for each second of CPU, single packets, attaching and detaching.

Throughput on a machine that others use, too, varies by more than is to be measured. So what counts here is how many
requests get done in a second of CPU time. Beside it stands what the same measurement makes of no difference at all.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks import loads
from benchmarks.cpu import in_turn, per_cpu_second
from benchmarks.loads import Load
from benchmarks.site import Effort, Site
from benchmarks.table import Row, paired
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, write
from lab.ebpf import bench, framed, run
from lab.http import PAGE_REQUEST, request
from lab.interceptor import TOKEN
from lab.processes import wait_until
from lab.tls import VISITOR, client_hello

LOADS: dict[str, Load] = {"(a) kept connections": loads.kept, "(b) a connection a request": loads.opened}
AT_LEAST = 0.97
_REPEATED = 50_000
_TRIES = 7
_CYCLES = 20
_ANOTHER = "another port's"
_UNTOUCHED, _AGAIN, _ALONE, _CAPTURED = "untouched", "untouched again", "captured, not watched", "captured"
_WAYS = {_ALONE: {"evidence": False}, _CAPTURED: {"evidence": True}}


def requests_per_cpu_second(site: Site, effort: Effort) -> Iterator[Row]:
    """Yield how much bystanders get done."""
    for name, load in LOADS.items():

        def requests(way: str, load: Load = load) -> float:
            with site.intercepting(capture="ebpf", **_WAYS[way]) if way in _WAYS else contextlib.nullcontext():
                return per_cpu_second(site, load, effort.seconds).throughput

        ways = (_UNTOUCHED, _AGAIN, *_WAYS)
        measured = in_turn(effort.pairs, {way: functools.partial(requests, way) for way in ways})
        untouched = measured[_UNTOUCHED]
        yield paired(f"{name}: no difference", "requests/CPU s", untouched, measured[_AGAIN])
        yield paired(f"{name}: eBPF alone", "requests/CPU s", untouched, measured[_ALONE], at_least=AT_LEAST)
        yield paired(f"{name}: eBPF and the tap", "requests/CPU s", untouched, measured[_CAPTURED])


def handed_over(site: Site, selectors: Sequence[Selector], key: str, ours: bytes, load: Callable[[], object]) -> int:
    """Return how many packets leave the kernel during a load, while a key is pending that none of it is for.

    That what is ours does leave it is shown afterwards.
    """
    with site.server.inside():
        capture = EbpfBackend().open(selectors, contextlib.ExitStack())
    with contextlib.closing(capture):
        capture.expect([key.encode()])
        load()
        packets = len(capture.receive())
        with site.client.connect(site.server.ipv4, selectors[0].port) as connection:
            connection.sendall(ours)
            wait_until(capture.receive, "what is ours is handed over")
    return packets


def packets() -> Iterator[Row]:
    """Yield what one packet costs of each kind: what the program takes longer than one that does nothing."""
    data = Flags.PSH | Flags.ACK
    bare = Segment("192.0.2.1", 40000, "192.0.2.80", 80, 1000, 5000, Flags.ACK, 500, b"", Timestamps(1, 2))
    arriving = {
        _ANOTHER: replace(bare, flags=data, destination_port=443, payload=bytes(1000)),
        "SYN": replace(bare, flags=Flags.SYN),
        "acknowledgment": bare,
        "a page's request": replace(bare, flags=data, payload=PAGE_REQUEST),
        "1,400 bytes of an upload": replace(bare, flags=data, payload=bytes(1400)),
        "a request for a token that is not pending": replace(bare, flags=data, payload=request("x" * len(TOKEN))),
    }
    server = replace(bare, source_port=80, destination_port=40000, flags=data)
    leaving = {
        _ANOTHER: replace(server, source_port=443, payload=bytes(1000)),
        "1,000 bytes of a page": replace(server, payload=bytes(1000)),
        "SYN-ACK": replace(server, flags=Flags.SYN | Flags.ACK),
    }
    with bench(Http01Solver.selectors(80)) as loaded:
        loaded.expect(f"{TOKEN} HTTP/1.".encode())
        yield from _costs("arriving", loaded.programs.ingress(14), arriving[_ANOTHER], arriving)
        yield from _costs("leaving", loaded.programs.egress(14), leaving[_ANOTHER], leaving)
    hello = replace(bare, flags=data, destination_port=443, payload=client_hello("example.com", VISITOR))
    with bench(TlsAlpn01Solver.selectors(443)) as loaded:
        loaded.expect(b"pending.example.com")
        other = replace(hello, destination_port=80)
        yield from _costs("arriving", loaded.programs.ingress(14), other, {"a visitor's ClientHello": hello})


def _costs(way: str, program: int, another: Segment, segments: Mapping[str, Segment]) -> Iterator[Row]:
    """Yield what each kind of packet takes longer than another port's."""
    nothing = min(_nanoseconds(program, another) for _ in range(_TRIES))
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
