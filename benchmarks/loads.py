"""The loads that bystanders are: each runs for a time, and tells how much it got done and how long it waited."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.site import DOWNLOAD, DOWNLOAD_OCTETS, Site

_WRK_REPORT = """
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("REPORT %f %f %f %d\\n", summary.requests / summary.duration * 1e6,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_REPORT = re.compile(r"^REPORT (\S+) (\S+) (\S+) (\d+)$", re.MULTILINE)
_BLOCK = 1 << 20
_SOFTIRQ = 7  # the column of /proc/stat's first line; proc_stat(5)
_TICKS = 100


@dataclass(frozen=True)
class Result:
    """What a load got done in a second, its waiting times in milliseconds, and what failed."""

    throughput: float
    p50: float | None = None
    p99: float | None = None
    failures: int = 0
    softirq: float = 0.0
    """Seconds of CPU the kernel spent in software interrupts, on the whole machine."""


Load = Callable[[Site, int], Result]


def kept(site: Site, seconds: int) -> Result:
    """Ask for a page over and over, on eight connections."""
    return wrk(site, seconds, site.url, connections=8)


def opened(site: Site, seconds: int) -> Result:
    """Ask for a page over and over, on a new connection each time."""
    return wrk(site, seconds, site.url, connections=8, close=True)


def download(site: Site, seconds: int) -> Result:
    """Fetch a large file again and again, on one connection at a time; octets a second."""
    buffer = bytearray(_BLOCK)

    def fetch() -> int:
        with site.client.connect(site.server.ipv4) as connection:
            connection.sendall(f"GET /{DOWNLOAD} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n".encode())
            received = 0
            while count := connection.recv_into(buffer):
                received += count
        return received if received > DOWNLOAD_OCTETS else 0

    return _repeat(fetch, seconds)


def upload(site: Site, seconds: int) -> Result:
    """Send a large body again and again, on one connection at a time; octets a second."""
    block = bytes(_BLOCK)

    def send() -> int:
        with site.client.connect(site.server.ipv4) as connection:
            head = f"POST /discard HTTP/1.1\r\nHost: site\r\nContent-Length: {DOWNLOAD_OCTETS}\r\nConnection: close\r\n"
            connection.sendall(f"{head}\r\n".encode())
            for _ in range(DOWNLOAD_OCTETS // _BLOCK):
                connection.sendall(block)
            response = b""
            while octets := connection.recv(_BLOCK):
                response += octets
        return DOWNLOAD_OCTETS if b" 204 " in response[:20] else 0

    return _repeat(send, seconds)


def slow(site: Site, seconds: int) -> Result:
    """Let a hundred clients write their requests in two pieces and read a longer page haltingly."""
    command = site.client.command(sys.executable, "-m", "benchmarks.slow_clients", site.server.ipv4, str(seconds))
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    throughput, p50, p99, failures = map(float, output.split())
    return Result(throughput, p50, p99, int(failures))


def wrk(site: Site, seconds: int, url: str, connections: int, *, close: bool = False) -> Result:
    """Run wrk with one thread; a failure is a broken connection or a status that is no success."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_WRK_REPORT)
        script.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
        output = site.client.run("wrk", *options, *(["-H", "Connection: close"] if close else []), url)
    report = _REPORT.search(output)
    if not report:
        raise RuntimeError(f"wrk said: {output}")
    throughput, p50, p99, failures = report.groups()
    return Result(float(throughput), float(p50), float(p99), int(failures))


def softirq_seconds() -> float:
    """Return the CPU time the kernel has spent in software interrupts since it booted."""
    return int(Path("/proc/stat").read_text(encoding="ascii").split()[_SOFTIRQ]) / _TICKS


def _repeat(transfer: Callable[[], int], seconds: int) -> Result:
    begin = time.monotonic()
    octets = failures = 0
    while time.monotonic() < begin + seconds:
        moved = transfer()
        octets += moved
        failures += not moved
    return Result(octets / (time.monotonic() - begin), failures=failures)
