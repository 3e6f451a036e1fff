"""A report for people: a line for each finding, or on a terminal as many as its width asks for, in colours."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from certbot_standalone_nfq.cli.doctor.finding import Finding, Status
from certbot_standalone_nfq.cli.doctor.report import Report

_INDENT = "      "
"""Under the name of the check."""
_NARROWEST = 20
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_COLOURS = {Status.PASS: "\x1b[32m", Status.WARN: "\x1b[33m", Status.FAIL: "\x1b[1;31m"}
_OUTLOOK = {
    Status.PASS: "Nothing was found that prevents a {}.",
    Status.WARN: "Nothing was found that surely prevents a {}; see the warnings.",
    Status.FAIL: "A {} will probably not succeed.",
}


@dataclass(frozen=True)
class Terminal:
    """What is written to."""

    width: int
    """In characters."""
    colours: bool


def terminal(stream: TextIO) -> Terminal | None:
    """Return the terminal that a stream is shown on, if any. NO_COLOR is honoured (no-color.org)."""
    if not stream.isatty():
        return None
    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Terminal(max(shutil.get_terminal_size().columns, _NARROWEST), colours)


def as_text(report: Report, shown_on: Terminal | None, *, quiet: bool = False) -> str:
    """Return a report as lines; without a terminal, each finding is on one. Quietly, what passed is not shown."""
    shown = [finding for finding in report.findings if not quiet or finding.status is not Status.PASS]
    if quiet and not shown:
        return ""
    findings = [line for finding in shown for line in _lines(finding, shown_on)]
    return "".join(f"{line}\n" for line in (*findings, "", *_summary(report, shown_on)))


def _lines(finding: Finding, shown_on: Terminal | None) -> Iterator[str]:
    status, check = finding.status.value, finding.check
    seen = _printable(f"{status}  {check}: {finding.seen}")
    cure = _printable(finding.cure)
    if not shown_on:
        yield f"{seen} {cure}".rstrip()
        return
    first, *rest = [*_wrapped(seen, shown_on, ""), *_wrapped(cure, shown_on, _INDENT)]
    head = f"{status}  {check}:"
    if shown_on.colours and first.startswith(head):
        first = f"{_COLOURS[finding.status]}{status}{_PLAIN}  {_BOLD}{check}:{_PLAIN}{first[len(head) :]}"
    yield from (first, *rest)


def _summary(report: Report, shown_on: Terminal | None) -> Iterator[str]:
    counts = ", ".join(f"{report.count(status)} {status.value}" for status in Status)
    outlook = _OUTLOOK[report.status].format(report.subject)
    if not shown_on:
        yield f"{counts}. {outlook}"
        return
    for line in textwrap.wrap(f"{counts}. {outlook}", shown_on.width):
        yield f"{_COLOURS[report.status]}{line}{_PLAIN}" if shown_on.colours else line


def _wrapped(text: str, shown_on: Terminal, begin: str) -> list[str]:
    """Return text in lines of whole words; a word that is longer than a line is left whole, to be copied."""
    return textwrap.wrap(
        text,
        shown_on.width,
        initial_indent=begin,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    """Return text that cannot control a terminal: programs' names, rules' comments and DNS records are untrusted."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
