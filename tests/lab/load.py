"""A load on the web server, that counts every request that fails."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator

from tests.lab.hosts import Host
from tests.lab.processes import end

_FAILURES = re.compile(
    r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)|Non-2xx or 3xx responses: (\d+)"
)
_REQUESTS = re.compile(r"(\d+) requests in")


class Load:
    """What wrk counted, once the load is over."""

    requests = 0
    failures = 0


@contextlib.contextmanager
def load(client: Host, url: str, seconds: int = 600, connections: int = 8, niceness: int = 0) -> Iterator[Load]:
    """Ask for a page over and over, from several connections at once, for as long as the context lasts."""
    counted = Load()
    command = client.command("nice", f"-n{niceness}", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield counted
    finally:
        process.send_signal(2)  # wrk prints its count when interrupted
        output, _ = process.communicate(timeout=30)
        end(process)
    requests = _REQUESTS.search(output)
    counted.requests = int(requests.group(1)) if requests else 0
    counted.failures = sum(int(number) for found in _FAILURES.findall(output) for number in found if number)
