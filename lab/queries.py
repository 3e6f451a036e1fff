"""A load on a name server, by dnsperf, that counts every query that is lost or gets another answer than it should."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.hosts import Host
from lab.nameservers import ZONE
from lab.processes import end

_COMPLETED, _LOST, _ANSWERED = r"Queries completed: +(\d+)", r"Queries lost: +(\d+)", r"NOERROR (\d+)"
QUERIES = (f"www.{ZONE} A", f"ns.{ZONE} AAAA", f"{ZONE} A", f"www.{ZONE} AAAA")
"""Each of these has an answer, if perhaps an empty one."""


class Load:
    """What dnsperf counted, once the load is over."""

    completed = 0
    lost = 0
    wrong = 0
    """Those that came back as anything but a success."""


@contextlib.contextmanager
def load(
    client: Host,
    address: str,
    folder: Path,
    mode: str = "udp",
    per_second: int = 0,
    queries: Sequence[str] = QUERIES,
    seconds: int = 600,
    rounds: int = 0,
    wait: bool = False,
) -> Iterator[Load]:
    """Ask a server over and over for as long as the context lasts, so often a second if that is limited.

    With `wait`, the load ends by itself, after so many seconds, or rounds of all queries if they are limited.
    """
    counted = Load()
    file = folder / f"queries-{mode}-{':' in address}"
    file.write_text("".join(f"{query}\n" for query in queries))
    limit = [*(("-Q", str(per_second)) if per_second else ()), *(("-n", str(rounds)) if rounds else ())]
    command = ("dnsperf", "-s", address, "-d", str(file), "-m", mode, "-c", "4", "-q", "40", "-l", str(seconds), *limit)
    process = subprocess.Popen(client.command("nice", "-n5", *command), stdout=subprocess.PIPE, text=True)
    try:
        yield counted
        if not wait:
            process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=seconds + 30)[0]
    finally:
        end(process)
    if "Queries sent" not in output:
        raise RuntimeError(f"dnsperf did not count: {output}")
    counted.completed, counted.lost = _number(_COMPLETED, output), _number(_LOST, output)
    counted.wrong = counted.completed - _number(_ANSWERED, output)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
