"""The packet queues of this network namespace, as the kernel lists them in nfnetlink_queue.c."""

from __future__ import annotations

import time
from pathlib import Path

OF_A_SERVICE = "queue of a service"
"""What a capture for days claims, together with the number of its queue."""
_POLL_SECONDS = 0.001
_TABLE = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")


def has_queues() -> bool:
    """Whether the kernel has packet queues yet: before their module is loaded, nothing listens to one."""
    return _TABLE.exists()


def bound_queues() -> set[int] | None:
    """Return the numbers of the queues that have a listener, or None if the kernel does not say."""
    rows = _rows()
    return None if rows is None else {int(row[0]) for row in rows}


def waiting_packets() -> int:
    """Return how many packets wait for a verdict, in all queues together; 0 if the kernel does not say."""
    return sum(int(row[2]) for row in _rows() or [])


def wait_until_empty(seconds: float) -> None:
    """Wait until no packet waits in any queue, but at most so many seconds."""
    deadline = time.monotonic() + seconds
    while waiting_packets() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _rows() -> list[list[str]] | None:
    try:
        table = _TABLE.read_text(encoding="ascii")
    except OSError:
        return None
    return [line.split() for line in table.splitlines() if line.strip()]
