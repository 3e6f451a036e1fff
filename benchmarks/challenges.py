"""What a validator notices: how soon it is answered, and how many are answered in a second."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

from benchmarks import loads
from benchmarks.ebpf import handed_over
from benchmarks.site import Effort, Site
from benchmarks.table import Row
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.engine import MAX_ANSWERS_PER_SECOND
from lab.http import CLOSE, body, read_response, request
from lab.interceptor import KEY_AUTHORIZATION, TOKEN
from lab.load import Load, load
from lab.nginx import OTHER_ANSWER, OTHER_TOKEN

_SAMPLES = 100
_VALIDATORS = 50
_IDLE = "idle"
_PENDING = (1, 10, 100, 1000)


def latency(site: Site, selection: str) -> Iterator[Row]:
    """Yield the time from request to answer, idle and under load, beside that of nginx serving the same from a file."""
    for state in (_IDLE, "under load (a)"):
        times: dict[str, list[float]] = {TOKEN: [], OTHER_TOKEN: []}
        with contextlib.ExitStack() as stack:
            if state != _IDLE:
                stack.enter_context(load(site.client, site.url))
            stack.enter_context(site.intercepting(selection=selection))
            for _ in range(_SAMPLES):
                for token, answer in ((TOKEN, KEY_AUTHORIZATION), (OTHER_TOKEN, OTHER_ANSWER)):
                    times[token].append(_ask(site, token, answer))
        ours, nginx = times[TOKEN], times[OTHER_TOKEN]
        median = statistics.median(nginx), statistics.median(ours)
        bounded = selection == "prefilter"
        yield _beside(f"(e) answer, {state}: median", *median, 2.0 if bounded and state == _IDLE else None)
        worst = max(nginx), max(ours)
        yield _beside(f"(e) answer, {state}: worst of {_SAMPLES}", *worst, 50.0 if bounded and state != _IDLE else None)


def rate(site: Site, selection: str, effort: Effort) -> Iterator[Row]:
    """Yield the answers a second, for many validators at once and an interception that has one core.

    The engine bounds them, so they show that it gets there.
    """
    rates, failures = [], 0
    for _ in range(effort.pairs):
        with site.intercepting(one_core=True, selection=selection):
            result = _validate(site, effort.seconds)
        rates.append(result.throughput)
        failures += result.failures
    at_least = MAX_ANSWERS_PER_SECOND if selection == "prefilter" else None
    yield Row(f"(f) {_VALIDATORS} validators: answers", "1/s", statistics.median(rates), at_least=at_least)
    yield Row(f"(f) {_VALIDATORS} validators: failures", "", failures, at_most=0)


def pending(site: Site, effort: Effort) -> Iterator[Row]:
    """Yield what one, ten, a hundred and a thousand pending tokens make of (f) and of (a)."""
    answers: dict[int, list[float]] = {count: [] for count in _PENDING}
    pages: dict[int, list[float]] = {count: [] for count in _PENDING}
    for pair in range(effort.pairs):
        for count in _PENDING[:: 1 if pair % 2 else -1]:
            with site.intercepting(one_core=True, others=count - 1):
                answers[count].append(_validate(site, effort.seconds).throughput)
                pages[count].append(loads.kept(site, effort.seconds).throughput)
    for what, unit, figures in (("answers of (f)", "1/s", answers), ("requests of (a)", "1/s", pages)):
        for count in _PENDING:
            ratio = statistics.median(figure / one for figure, one in zip(figures[count], figures[1]))
            yield Row(f"(i) {count:,} pending: {what}", unit, statistics.median(figures[count]), ratio=ratio)


def flood(site: Site, effort: Effort, capture: str) -> Iterator[Row]:
    """Yield what a flood of requests for tokens that are not pending does to (a) and to a challenge."""
    calm, without, within, waits, queued = [], [], [], [], 0
    for _ in range(effort.pairs):
        calm.append(loads.kept(site, effort.seconds).throughput)
        with _flooded(site):
            without.append(loads.kept(site, effort.seconds).throughput)
            with site.intercepting(capture=capture):
                within.append(loads.kept(site, effort.seconds).throughput)
                waits += [_ask(site, TOKEN, KEY_AUTHORIZATION) for _ in range(_SAMPLES // effort.pairs)]
                queued += site.queued()
    name = f"flood, {capture}"
    ratio = statistics.median(on / off for on, off in zip(within, without))
    off, on = statistics.median(without), statistics.median(within)
    yield Row(f"{name}: (a) meanwhile", "requests/s", on, off, ratio, at_least=0.5, limits_ratio=True)
    alone = statistics.median(on / off for on, off in zip(within, calm))
    yield Row(f"{name}: the same, against no flood", "requests/s", on, statistics.median(calm), alone)
    yield Row(f"{name}: packets queued and let go", "", queued)
    yield Row(f"{name}: a real challenge, worst", "ms", max(waits), at_most=1000)


def flood_handed_over(site: Site, effort: Effort) -> Iterator[Row]:
    """Yield how many requests such a flood has, and how many packets of it leave the kernel with eBPF: none."""
    counted = Load()

    def flooding() -> None:
        nonlocal counted
        with _flooded(site) as counted:
            time.sleep(effort.seconds)

    packets = handed_over(site, Http01Solver.selectors(80), f"{TOKEN} HTTP/1.", request(TOKEN), flooding)
    yield Row("flood, ebpf: requests", "", counted.requests)
    yield Row("flood, ebpf: packets handed over", "", packets, at_most=0)


def _flooded(site: Site) -> contextlib.AbstractContextManager[Load]:
    return load(site.client, f"{site.url}.well-known/acme-challenge/x", connections=_VALIDATORS)


def _validate(site: Site, seconds: int) -> loads.Result:
    url = f"{site.url}.well-known/acme-challenge/{TOKEN}"
    return loads.wrk(site, seconds, url, connections=_VALIDATORS, close=True)


def _beside(name: str, nginx: float, ours: float, at_most: float | None) -> Row:
    return Row(name, "ms", ours, nginx, ours / nginx, at_most=at_most)


def _ask(site: Site, token: str, answer: str) -> float:
    """Return the milliseconds from sending a request to having its answer."""
    with site.client.connect(site.server.ipv4) as connection:
        begin = time.perf_counter()
        connection.sendall(request(token, headers=CLOSE))
        response = read_response(connection)
        milliseconds = (time.perf_counter() - begin) * 1000
    if body(response) != answer:
        raise RuntimeError(f"not what was to be answered: {response!r}")
    return milliseconds
