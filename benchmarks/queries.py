"""What those notice who ask a name server while a dns-01 challenge is pending: dnsperf, with and without, in turn."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cpu import cpu_seconds, in_turn
from benchmarks.site import STATEFUL, Effort, queued_on
from benchmarks.table import Row, paired
from lab import hosts, queries
from lab.hosts import Host
from lab.interceptor import interceptor_process
from lab.nameservers import ZONE, name_server
from lab.processes import run

KEPT = {"iptables": 0.95, "ebpf": 0.97}
"""Of the queries that a second of CPU time answers, by the way to capture."""
_UNTOUCHED, _AGAIN, _CAPTURED = "untouched", "untouched again", "captured"
_PENDING = {"port": 53, "typ": "dns-01", "key": f"_acme-challenge.{ZONE}"}


def measure(effort: Effort, requests: int, capture: str) -> Iterator[Row]:
    """Yield the rows for one way to capture, each round in a new order; and what makes no difference at all."""
    with _site() as (client, server, folder):
        lost: Counter[str] = Counter()
        queued = 0

        def answered(which: str) -> float:
            nonlocal queued
            with _intercepting(server, capture if which == _CAPTURED else ""):
                before = cpu_seconds(_processes(server))
                with queries.load(client, server.ipv4, folder, seconds=effort.seconds, wait=True) as load:
                    pass
                lost[which] += load.lost + load.wrong
                queued += queued_on(server)
                return load.completed / (cpu_seconds(_processes(server)) - before)

        ways = (_UNTOUCHED, _AGAIN, _CAPTURED)
        measured = in_turn(effort.pairs, {which: functools.partial(answered, which) for which in ways})
        yield paired("(k) queries: no difference", "queries/CPU s", measured[_UNTOUCHED], measured[_AGAIN])
        yield paired(
            f"(k) queries: {capture}",
            "queries/CPU s",
            measured[_UNTOUCHED],
            measured[_CAPTURED],
            at_least=KEPT[capture],
        )
        yield Row(f"(k) queries: {capture}, lost", "", lost[_CAPTURED], without=lost[_UNTOUCHED], at_most=0)
        yield Row(f"(k) queries: {capture}, packets queued", "", queued, at_most=0)
        yield from _long_run(client, server, folder, requests, capture)


def _long_run(client: Host, server: Host, folder: Path, requests: int, capture: str) -> Iterator[Row]:
    with _intercepting(server, capture):
        rounds = max(1, requests // len(queries.QUERIES))
        with queries.load(client, server.ipv4, folder, seconds=600, rounds=rounds, wait=True) as load:
            pass
    yield Row(f"(k) queries: {capture}, in a long run", "", load.completed)
    yield Row(f"(k) queries: {capture}, lost in it", "", load.lost + load.wrong, at_most=0)


@contextlib.contextmanager
def _site() -> Iterator[tuple[Host, Host, Path]]:
    """Set up a client, and a name server whose firewall tracks connections, as most do."""
    with tempfile.TemporaryDirectory(prefix="nfq") as name, hosts.pair() as (client, server):
        for program in ("iptables", "ip6tables"):
            server.run(program, *STATEFUL)
        with name_server(server, Path(name) / "nsd"):
            yield client, server, Path(name)


@contextlib.contextmanager
def _intercepting(server: Host, capture: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if capture:
            stack.enter_context(interceptor_process(server, capture=capture, **_PENDING))
        yield


def _processes(server: Host) -> list[int]:
    return [int(pid) for pid in run(["ip", "netns", "pids", server.name]).split()]
