"""A load on the web server, that counts every request that fails."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator

from lab.hosts import Host
from lab.processes import end

_FAILURES = re.compile(
    r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)|Non-2xx or 3xx responses: (\d+)"
)
_SLOWEST = re.compile(r"Latency +\S+ +\S+ +([\d.]+)(us|ms|s|m)\b")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_REQUESTS = re.compile(r"(\d+) requests in")
_HANDSHAKES = ("-H", "Connection: close", "--timeout", "20s")
"""A handshake may take its time on a machine that is busy with many."""


class Load:
    """What wrk counted, once the load is over."""

    requests = 0
    failures = 0
    slowest = 0.0
    """Seconds of the slowest request."""


def _interrupted(process: subprocess.Popen[str]) -> str:
    """Interrupt wrk, which prints its count then; again, if it was not yet where it can be interrupted."""
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)[0]
    raise RuntimeError("wrk goes on")


@contextlib.contextmanager
def load(
    client: Host,
    url: str,
    seconds: int = 600,
    connections: int = 8,
    niceness: int = 0,
    *,
    handshakes: bool = False,
    name: str = "",
) -> Iterator[Load]:
    """Ask for a page over and over, from several connections at once, for as long as the context lasts.

    With `handshakes`, each request has a connection of its own. With a name, that is in the Host field.
    """
    counted = Load()
    named = ("-H", f"Host: {name}") if name else ()
    options = ("-t1", f"-c{connections}", f"-d{seconds}s", *(_HANDSHAKES if handshakes else ()), *named)
    command = client.command("nice", f"-n{niceness}", "wrk", *options, url)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield counted
    finally:
        output = _interrupted(process)
        end(process)
    requests = _REQUESTS.search(output)
    counted.requests = int(requests.group(1)) if requests else 0
    for number, unit in _SLOWEST.findall(output):
        counted.slowest = float(number) * _SECONDS[unit]
    counted.failures = sum(int(number) for found in _FAILURES.findall(output) for number in found if number)
