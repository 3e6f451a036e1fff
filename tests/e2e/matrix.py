"""The tables of the servers that certificates were issued past."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import pytest

_WEB_SERVERS = (
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


_NAME_SERVERS = (
    "Server",
    "Version",
    "Issued",
    "Renewed",
    "Queries over UDP",
    "Over TCP",
    "Lost or wrong",
    "As before",
    "Log as before",
    "Seconds",
)


_RECORDED = "a row"


class Printed(Protocol):
    """A row of any table."""

    headings: ClassVar[tuple[str, ...]]
    seconds: float

    def cells(self) -> list[str]:
        """Return what is in the table."""


AnyRow = TypeVar("AnyRow", bound=Printed)


@dataclass
class NameServerRow:
    """What came of one name server."""

    headings: ClassVar[tuple[str, ...]] = _NAME_SERVERS
    server: str
    version: str = "-"
    issued: bool = False
    renewed: bool = False
    over_udp: int = 0
    over_tcp: int = 0
    lost: int = 0
    unchanged: bool = False
    """Whether its process and files, and the firewall's rules, are as before."""
    log_unchanged: bool = False
    seconds: float = 0

    def cells(self) -> list[str]:
        """Return what is in the table."""
        return [*map(_cell, astuple(self)[:-1]), f"{self.seconds:.0f}"]


@dataclass
class ResolverRow:
    """What came of one resolver of the CA's; a certificate for each kind of name, or none."""

    headings: ClassVar[tuple[str, ...]] = (
        "Resolver",
        "Version",
        "Unsigned zone on this machine",
        "Delegation without DS from a signed zone",
        "Alias",
        "Without a record at the name above",
        "Seconds",
    )
    resolver: str
    version: str = "-"
    served: bool = False
    delegated: bool = False
    alias: bool = False
    without_record: bool = False
    seconds: float = 0

    def cells(self) -> list[str]:
        """Return what is in the table."""
        return [*map(_cell, astuple(self)[:-1]), f"{self.seconds:.0f}"]


@dataclass
class Row:
    """What came of one web server."""

    headings: ClassVar[tuple[str, ...]] = _WEB_SERVERS
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


@dataclass
class TlsRow:
    """What came of one server on port 443."""

    headings: ClassVar[tuple[str, ...]] = (
        *_WEB_SERVERS[:4],
        "Load, handshakes",
        "Failed",
        "Visitors served",
        *_WEB_SERVERS[-3:],
    )
    server: str
    version: str = "-"
    ipv4: bool = False
    ipv6: bool = False
    requests: int = 0
    failures: int = 0
    served: bool = False
    """Whether visitors got the server's own certificate afterwards."""
    unchanged: bool = False
    left: str = "-"
    """What challenges left in its log beyond what a client leaves that hangs up."""
    seconds: float = 0

    def cells(self) -> list[str]:
        """Return what is in the table."""
        return [*map(_cell, astuple(self)[:-1]), f"{self.seconds:.0f}"]


@contextlib.contextmanager
def recorded(row: AnyRow, title: str, node: pytest.Item) -> Iterator[AnyRow]:
    """Have a row, with the seconds that its test takes, printed at the end, in the table of this title."""
    begin = time.monotonic()
    try:
        yield row
    finally:
        row.seconds = time.monotonic() - begin
        # Tests may run in other processes than the one that prints.
        node.user_properties.append((_RECORDED, [title, list(row.headings), row.cells()]))


def tables(reports: Iterable[object]) -> Iterator[tuple[str, str]]:
    """Yield the title of each table that tests have recorded rows of, and the table in Markdown."""
    made: dict[str, list[list[str]]] = {}
    for title, headings, cells in _rows(reports):
        made.setdefault(title, [headings, ["---"] * len(headings)]).append(cells)
    for title, lines in made.items():
        yield title, "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(reports: Iterable[object]) -> Iterator[Any]:
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "teardown":
            yield from (value for name, value in report.user_properties if name == _RECORDED)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
