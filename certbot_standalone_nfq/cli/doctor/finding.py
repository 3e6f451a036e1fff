"""What a check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.Enum):
    """How bad it is; the values are what is printed."""

    PASS = "pass"
    WARN = "warn"
    """It works, or may work, but the user should know."""
    FAIL = "fail"
    """A validation cannot succeed."""


@dataclass(frozen=True)
class Finding:
    """One line of the output: what was checked, what was seen, and what to do about it, in sentences."""

    check: str
    status: Status
    seen: str
    cure: str = ""
    unchecked: bool = False
    """Whether it says only that privileges are missing for this check."""


def passed(check: str, seen: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Status.PASS, seen)


def warned(check: str, seen: str, cure: str) -> Finding:
    """Return a finding that the user should know."""
    return Finding(check, Status.WARN, seen, cure)


def failed(check: str, seen: str, cure: str) -> Finding:
    """Return a finding that prevents a validation."""
    return Finding(check, Status.FAIL, seen, cure)


def unchecked(check: str, seen: str) -> Finding:
    """Return a finding that a check needs privileges that this process does not have."""
    return Finding(check, Status.WARN, seen, "Run this as root.", unchecked=True)
