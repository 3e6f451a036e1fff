"""The log of a service that answers for days: a line for each answer, and a bound for each minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LINES = 60
"""In a minute. Whoever knows a name can cause them."""
_MINUTE = 60.0


class AnswerLog:
    """Writes lines, for use by several threads."""

    def __init__(
        self, left_out: Callable[[], object] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin. `left_out` is called when a minute's first line is left out, so that `sum_up` is called in time."""
        self._notify = left_out
        self._clock = clock
        self._lock = threading.Lock()
        self._minute_ends = clock() + _MINUTE
        self._written = self._left_out = 0

    def write(self, line: str) -> None:
        """Write a line, if there were not too many."""
        self.sum_up()
        with self._lock:
            if self._written < LINES:
                self._written += 1
                logger.info("%s", line)
                return
            self._left_out += 1
            first = self._left_out == 1
        if first:
            self._notify()

    def sum_up(self) -> None:
        """Write how many lines a minute had more, once it is over."""
        with self._lock:
            if self._clock() < self._minute_ends:
                return
            if self._left_out:
                logger.info("%d more requests were answered in that minute.", self._left_out)
            self._minute_ends = self._clock() + _MINUTE
            self._written = self._left_out = 0

    def seconds_left(self) -> float | None:
        """Return in how many seconds `sum_up` has something to write, or None."""
        with self._lock:
            return max(0.0, self._minute_ends - self._clock()) if self._left_out else None
