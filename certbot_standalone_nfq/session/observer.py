"""Watching incoming segments while challenges are pending, at a bounded cost.

A thread reads the tap, a few packets at a time. On a busy server there may be more: these are not read, and counted as
missed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.tap import Tap
from certbot_standalone_nfq.diagnosis.attempts import TappedSegment
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.diagnosis.queries import TappedDatagram
from certbot_standalone_nfq.engine.protocols import Selector

logger = logging.getLogger(__name__)

_INTERVAL = 0.05
_PACKETS = 10
"""Packets to read in an interval: 200 a second, which take a five-hundredth of a core, in short bursts."""
_CATCH_UP = 8192
"""Packets to read at the end: more than the socket's buffer holds."""
_JOIN_SECONDS = 5.0


class Observation:
    """Watches one port from `start` to `stop`."""

    def __init__(
        self, selectors: Sequence[Selector], evidence: Evidence, guard: threading.Lock, *, thorough: bool = False
    ) -> None:
        """Open the tap, with `thorough` for outgoing segments too. Raises errors.NotPermitted or OSError.

        The evidence is given each segment in turn, by a thread of its own or by `catch_up`; the guard is held while it
        takes one.
        """
        self._tap = Tap(selectors, thorough=thorough)
        self._evidence = evidence
        self._guard = guard
        self._taps_outgoing = self._sees_outgoing = thorough
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self.missed = 0
        """Packets that were not read, as there were too many."""
        self._thread = threading.Thread(target=self._run, name="standalone-nfq-tap", daemon=True)

    def start(self) -> None:
        """Start the thread. If that is interrupted, `stop` undoes it."""
        self._thread.start()

    def catch_up(self) -> None:
        """Read what the tap has seen until now; nothing after `stop`."""
        with self._reading:
            if not self._stop.is_set():
                self._read(_CATCH_UP)

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        self._tap.close()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL):
            try:
                with self._reading:
                    self._read(_PACKETS)
            except Exception as error:
                errors.raise_interruption(error)
                logger.debug("Incoming segments are no longer watched: %s", error, exc_info=True)
                self.missed += 1
                return

    def _read(self, limit: int) -> None:
        found = self._tap.receive(limit)
        wanted = list(map(self._observe, found))
        self.missed += self._tap.missed() + (limit == _CATCH_UP and len(found) == limit)
        if self._taps_outgoing and not self._sees_outgoing and len(found) < limit:
            # All that came before the tap showed outgoing segments has been read: of what comes now, answers are seen.
            self._sees_outgoing = True
            with self._guard:
                self._evidence.outgoing_is_seen()
        if any(wanted) and not self._taps_outgoing:
            self._tap.look_outside()
            self._taps_outgoing = True

    def _observe(self, seen: TappedSegment | TappedDatagram) -> bool:
        with self._guard:  # not for all segments at once: whatever decides on packets may be waiting for it
            return self._evidence.observe(seen)
