"""What those notice who open TLS connections while tls-alpn-01 is pending, and how soon its handshake is complete."""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ebpf, loads
from benchmarks.cpu import in_turn, per_cpu_second
from benchmarks.site import STATEFUL, Effort, Site
from benchmarks.table import Row, paired
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.settings import TLS_ALPN_01
from lab import hosts
from lab.nginx import nginx
from lab.tls import ACME, VISITOR, client_context, client_hello, listen

AT_LEAST = 0.97
CAPTURES = ("iptables", "ebpf")
_PORT = 443
_NAME = "pending.example.com"
_SAMPLES = 100
_UNTOUCHED, _AGAIN = "untouched", "untouched again"


def measure(effort: Effort) -> Iterator[Row]:
    """Yield how much bystanders get done, a handshake for each request; then how long the challenge's own takes."""
    with _site() as site:
        failures = queued = 0

        def handshakes(capture: str) -> float:
            nonlocal failures, queued
            with _intercepting(site, capture):
                result = per_cpu_second(site, _visit, effort.seconds)
                queued += site.queued()
            failures += result.failures
            return result.throughput

        ways = (_UNTOUCHED, _AGAIN, *CAPTURES)
        measured = in_turn(effort.pairs, {way: functools.partial(handshakes, way) for way in ways})
        untouched, unit = measured[_UNTOUCHED], "requests/CPU s"
        yield paired("(l) handshakes: no difference", unit, untouched, measured[_AGAIN])
        for capture in CAPTURES:
            yield paired(f"(l) handshakes: {capture}", unit, untouched, measured[capture], at_least=AT_LEAST)
        yield Row("(l) handshakes: failures", "", failures, at_most=0)
        yield Row("(l) handshakes: packets queued", "", queued, at_most=0)
        yield Row("(l) handshakes: packets handed over by eBPF", "", _handed_over(site, effort), at_most=0)
        for capture in CAPTURES:
            yield from _latency(site, capture)


def _handed_over(site: Site, effort: Effort) -> int:
    selectors = TlsAlpn01Solver.selectors(_PORT)
    return ebpf.handed_over(site, selectors, _NAME, client_hello(_NAME), lambda: _visit(site, effort.seconds))


@contextlib.contextmanager
def _intercepting(site: Site, way: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if way in CAPTURES:
            stack.enter_context(site.intercepting(capture=way, port=_PORT, typ=TLS_ALPN_01, key=_NAME))
        yield


def _latency(site: Site, capture: str) -> Iterator[Row]:
    """Yield the time from ClientHello to Finished of the challenge's handshakes, beside that of visitors'."""
    times: dict[tuple[str, ...], list[float]] = {ACME: [], VISITOR: []}
    with _intercepting(site, capture):
        for _ in range(_SAMPLES):
            for protocols, taken in times.items():
                taken.append(_shake_hands(site, protocols))
    for name, chosen in (("median", statistics.median), (f"worst of {_SAMPLES}", max)):
        ours, servers = (chosen(times[protocols]) for protocols in (ACME, VISITOR))
        yield Row(f"(e) handshake, {capture}: {name}", "ms", ours, servers, ours / servers)


def _shake_hands(site: Site, protocols: tuple[str, ...]) -> float:
    """Return the milliseconds of a handshake."""
    with site.client.connect(site.server.ipv4, _PORT) as connection:
        begin = time.perf_counter()
        with client_context(protocols).wrap_socket(connection, server_hostname=_NAME) as tls:
            milliseconds = (time.perf_counter() - begin) * 1000
            chosen = tls.selected_alpn_protocol()
    if chosen not in protocols:
        raise RuntimeError(f"{chosen} was chosen of {protocols}")
    return milliseconds


def _visit(site: Site, seconds: int) -> loads.Result:
    return loads.wrk(site, seconds, f"https://{site.server.ipv4}/", connections=8, close=True)


@contextlib.contextmanager
def _site() -> Iterator[Site]:
    """Set up a client, and a server whose nginx has port 443 and whose firewall tracks connections."""
    with tempfile.TemporaryDirectory(prefix="nfq") as name, hosts.pair() as (client, server):
        client.run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65535")
        for program in ("iptables", "ip6tables"):
            server.run(program, *STATEFUL)
        folder = Path(name)
        with nginx(server, folder / "nginx", _PORT, listen(folder / "tls")) as running:
            yield Site(client, server, running)
