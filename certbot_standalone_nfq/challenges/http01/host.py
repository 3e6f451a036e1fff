"""The name that an HTTP request is for, its Host field, and how names are compared: RFC 9110, 7.2; RFC 9112, 3.2."""

from __future__ import annotations

import ipaddress
import re

_VALUE = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?")
_LONGEST = 253
_FOLDED = re.compile(rb"\n[ \t]")
"""How a line begins that goes on the one before: obsolete (RFC 9112, 5.2), and read in more than one way."""


def normal(name: str) -> str:
    """Return a domain name or an address as names are compared: in lower case, addresses in their canonical form.

    Raises ValueError if it is neither.
    """
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        lowered = name.lower()[:-1] if name.endswith(".") else name.lower()
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", lowered) or len(lowered) > _LONGEST:
        raise ValueError(f"not a domain name nor an address: {name!r}")
    return lowered


def named(value: bytes) -> str | None:
    """Return the name in a Host field's value, with or without a port, or None if there is none."""
    found = _VALUE.fullmatch(value)
    if not found:
        return None
    try:
        return normal((found.group(1) or found.group(2)).decode())
    except ValueError:
        return None


def hosts(lines: bytes) -> list[bytes] | None:
    """Return the values of all Host fields in whole lines of a request's head, or None if the lines are ambiguous."""
    if _FOLDED.search(b"\n" + lines):
        return None
    fields = (line.partition(b":") for line in lines.split(b"\n"))
    return [value.strip(b" \t\r") for name, colon, value in fields if colon and name.strip().lower() == b"host"]
