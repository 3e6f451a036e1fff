"""The table of the web servers that certificates were issued past."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

_HEADINGS = (
    "Server",
    "Version",
    "IPv4 issued",
    "IPv6 issued",
    "Load, requests",
    "Failed",
    "Challenges seen",
    "Kept connections",
    "As before",
    "Left in its log",
    "Seconds",
)


@dataclass
class Row:
    """What came of one server."""

    server: str
    version: str = "-"
    ipv4: bool = False
    ipv6: bool = False
    requests: int = 0
    failures: int = 0
    challenges: int = 0
    kept: bool = False
    """Whether connections that were open before, one over each IP version, served a page afterwards."""
    unchanged: bool = False
    """Whether its processes and configuration, and the firewall's rules, are as before."""
    left: str = "-"
    """What the challenges left in its log."""
    seconds: float = 0

    def cells(self) -> list[str]:
        """Return what is in the table."""
        values = (self.server, self.version, self.ipv4, self.ipv6, self.requests, self.failures, self.challenges)
        return [_cell(value) for value in (*values, self.kept, self.unchanged, self.left, f"{self.seconds:.0f}")]


ROWS: pytest.StashKey[list[Row]] = pytest.StashKey()


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [_HEADINGS, ["---"] * len(_HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
