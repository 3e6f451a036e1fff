"""A bound on how often something may be done, or for how long."""

from __future__ import annotations


class Allowance:
    """An amount that is used up, and refills over time. Times are seconds."""

    def __init__(self, per_second: float, most: float | None = None) -> None:
        """Begin with the most that it holds, which is by default what it gains in a second."""
        self._per_second = per_second
        self._most = self._left = per_second if most is None else most
        self._refilled_at: float | None = None

    def take(self, now: float, amount: float = 1) -> bool:
        """Whether so much is left; if so, it is taken."""
        elapsed = 0.0 if self._refilled_at is None else now - self._refilled_at
        self._refilled_at = now
        self._left = min(self._most, self._left + elapsed * self._per_second)
        if self._left < amount:
            return False
        self._left -= amount
        return True
