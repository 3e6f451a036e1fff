"""Looking on at the machine's edge while challenges are pending, at a bounded cost.

A thread of its own reads what the packet socket was shown, a few packets at a time. What a busy server's bystanders
bring beyond that is not read, and counted as missed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.tap import Tap
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.engine.protocols import Selector

logger = logging.getLogger(__name__)

_INTERVAL = 0.05
_PACKETS = 10
"""Packets to read in an interval: 200 a second, which take a five-hundredth of a core, in bursts nobody notices."""
_CATCH_UP = 8192
"""Packets to read at the end: more than the socket's buffer holds."""
_JOIN_SECONDS = 5.0


class Observation:
    """Looks on at one port, from its making until `stop`."""

    def __init__(self, selectors: Sequence[Selector], evidence: Evidence, *, thorough: bool = False) -> None:
        """Begin, at once with all that Edge can show if it is to be thorough. Raises errors.NotPermitted or OSError.

        The evidence is told of each segment in turn, by a thread of the observation's or by `catch_up`.
        """
        self._edge = Tap(selectors, thorough=thorough)
        self._evidence = evidence
        self._looks_outside = self._sees_outside = thorough
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
                errors.raise_interruption(error)
                logger.debug("The machine's edge is not looked at any more: %s", error, exc_info=True)
                self.missed += 1
                return

    def _read(self, limit: int) -> None:
        found = self._edge.receive(limit)
        wanted = [self._evidence.observe(seen) for seen in found]
        self.missed += self._edge.missed() + (limit == _CATCH_UP and len(found) == limit)
        if self._looks_outside and not self._sees_outside and len(found) < limit:
            # What came before it was looked outside has all been read: of what comes now, answers are seen.
            self._sees_outside = True
            self._evidence.outgoing_is_seen()
        if any(wanted) and not self._looks_outside:
            self._edge.look_outside()
            self._looks_outside = True
