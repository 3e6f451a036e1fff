"""A bound on how often something may be done."""

from __future__ import annotations


class Allowance:
    """So many times a second, and as many at once after a quiet second. Times are seconds."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._refilled_at: float | None = None

    def take(self, now: float) -> bool:
        """Whether it may be done once more; if so, that counts."""
        elapsed = 0.0 if self._refilled_at is None else now - self._refilled_at
        self._refilled_at = now
        self._left = min(float(self._per_second), self._left + elapsed * self._per_second)
        if self._left < 1:
            return False
        self._left -= 1
        return True
