"""Clients of the web server that have nothing to do with challenges: each of their requests has to succeed."""

from __future__ import annotations

import socket
import threading
import time

from lab.hosts import Host
from lab.http import KEPT_PAGE_REQUEST, read_response
from lab.nginx import PAGE

_PATIENCE = 15.0
_PAUSE = 0.01
"""Seconds between two requests."""


class Bystander(threading.Thread):
    """Asks for the page over and over, on one connection or on a new one each time."""

    def __init__(self, client: Host, address: str, *, keep: bool) -> None:
        super().__init__(name="bystander", daemon=True)
        self._client, self._address, self._keep = client, address, keep
        self._connection: socket.socket | None = None
        self._ended = threading.Event()
        self.requests = 0
        self.slowest = 0.0
        """Seconds."""
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask until it is ended."""
        while not self._ended.wait(_PAUSE):
            began = time.monotonic()
            try:
                self._ask()
            except (OSError, AssertionError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                self._close()
            self.requests += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
        self._close()

    def end(self) -> None:
        """Let it end."""
        self._ended.set()
        self.join()

    def _ask(self) -> None:
        self._connection = self._connection or self._client.connect(self._address, timeout=_PATIENCE)
        self._connection.sendall(KEPT_PAGE_REQUEST)
        assert read_response(self._connection).endswith(PAGE.encode()), "another page"
        if not self._keep:
            self._close()

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
