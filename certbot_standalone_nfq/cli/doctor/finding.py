"""What a check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.Enum):
    """How bad it is; the values are what is printed."""

    PASS = "pass"
    WARN = "warn"
    """It works, or may work, and somebody should know."""
    FAIL = "fail"
    """As it is, a validation cannot succeed."""


@dataclass(frozen=True)
class Finding:
    """One line of the output: what was looked at, what was seen, and what to do about it, in sentences."""

    check: str
    status: Status
    seen: str
    cure: str = ""


def passed(check: str, seen: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Status.PASS, seen)


def warned(check: str, seen: str, cure: str) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(check, Status.WARN, seen, cure)


def failed(check: str, seen: str, cure: str) -> Finding:
    """Return a finding that stands in the way of a validation."""
    return Finding(check, Status.FAIL, seen, cure)
