"""Looking on at the machine's edge while challenges are pending, at a bounded cost.

A thread of its own reads what the packet socket was shown, a few packets at a time. What a busy server's bystanders
bring beyond that is not read, and counted as missed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from certbot_standalone_nfq.core.attempts import Sighting
from certbot_standalone_nfq.kernel.edge import Edge

logger = logging.getLogger(__name__)

_INTERVAL = 0.02
_PACKETS = 20
"""Packets to read in an interval: a thousand a second, which takes about a hundredth of a core."""
_CATCH_UP = 2000
"""Packets to read at the end: as many as the socket's buffer can hold."""
_JOIN_SECONDS = 5.0


class Observation:
    """Looks on at one port, from its making until `stop`."""

    def __init__(self, port: int, observe: Callable[[Sighting], bool], *, precise: bool = False) -> None:
        """Begin, with the precise time of each segment if wanted. Raises errors.NotPrivileged or OSError.

        `observe` is called for each segment in turn, on a thread of the observation's or by `catch_up`, and tells
        whether what goes out is to be looked at, too, from then on.
        """
        self._edge = Edge(port, precise=precise)
        self._observe = observe
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self.missed = 0
        """Packets that were not read, as there were too many."""
        self._thread = threading.Thread(target=self._run, name="standalone-nfq-edge", daemon=True)
        self._thread.start()

    def catch_up(self) -> None:
        """Read what has been seen until now."""
        with self._reading:
            self._read(_CATCH_UP)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)
        self._edge.close()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL):
            try:
                with self._reading:
                    self._read(_PACKETS)
            except Exception as error:
                logger.debug("The machine's edge is not looked at any more: %s", error, exc_info=True)
                return

    def _read(self, limit: int) -> None:
        for seen in self._edge.receive(limit):
            if self._observe(seen):
                self._edge.look_outside()
        self.missed += self._edge.missed()
