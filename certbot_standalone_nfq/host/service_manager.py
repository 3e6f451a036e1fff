"""What a service tells the service manager that started it: the protocol of sd_notify(3), which others have too."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_PINGS = 2
"""In the time after which the manager takes a service that sends none to hang."""


class ServiceManager:
    """The manager, if there is one. That it cannot be told something is no error."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._path = environment.get("NOTIFY_SOCKET", "")
        self.seconds_between_pings = _seconds_between_pings(environment)
        """None if it expects no pings."""

    def ready(self, status: str) -> None:
        """Tell that the service works, after its start or a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that it reads its settings again. When that began, some managers want to know."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Tell that it ends."""
        self._tell("STOPPING=1")

    def ping(self) -> None:
        """Tell that it is alive."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._path[:1] not in ("/", "@"):
            return
        address = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto("\n".join(lines).encode(), address)


def _seconds_between_pings(environment: Mapping[str, str]) -> float | None:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with contextlib.suppress(KeyError, ValueError):
        microseconds = int(environment["WATCHDOG_USEC"])
        return microseconds / 1e6 / _PINGS if microseconds > 0 else None
    return None
