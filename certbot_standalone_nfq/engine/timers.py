"""One timer for each of many things, at a cost that hardly grows with their number."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


_STALE = 64
"""Entries of forgotten timers that are not worth a clean-up yet."""


class Timers(Generic[Key]):
    """When each thing is due. A timer may go off too early, never too late: its user checks, and sets it again."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._times: dict[Key, float] = {}

    def next(self) -> float | None:
        """Return when the first timer goes off, or None if there is none."""
        while self._heap:
            time, key = self._heap[0]
            if self._times.get(key) == time:
                return time
            heapq.heappop(self._heap)
        return None

    def set(self, key: Key, time: float) -> None:
        """Have something due at this time, or earlier if its timer is set to that already."""
        if time < self._times.get(key, math.inf):
            self._times[key] = time
            heapq.heappush(self._heap, (time, key))

    def forget(self, key: Key) -> None:
        """Remove a timer; one that is not there is no error."""
        self._times.pop(key, None)
        if len(self._heap) > 2 * len(self._times) + _STALE:
            self._heap = [(time, key) for key, time in self._times.items()]
            heapq.heapify(self._heap)

    def due(self, now: float) -> list[Key]:
        """Return what is due; it has no timer any more."""
        found = []
        while (time := self.next()) is not None and time <= now:
            key = heapq.heappop(self._heap)[1]
            del self._times[key]
            found.append(key)
        return found
