"""A terminal with the output of a real run, as `scripts.pictures.recordings` has recorded it, colours included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from scripts.pictures.drawing import sheet

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SUFFIX = ".terminal.txt"
_CHARACTER, _LINE, _MARGIN = 7.8, 18, 16
"""Pixels: a character's width, from one line to the next, and around the text."""
_SPACE = "\N{NO-BREAK SPACE}"
"""Other spaces that follow each other are shown as one."""
_COLOUR = re.compile(r"\x1b\[([\d;]*)m")
_CLASSES = {"1": "bold", "31": "red", "32": "green", "33": "yellow"}
_STYLE = """
    text { font: 13px monospace; fill: #d1d9e0; }
    .page { fill: #151b23; }
    .command { fill: #ffffff; font-weight: bold; }
    .bold { fill: #ffffff; font-weight: bold; }
    .red { fill: #ff7b72; font-weight: bold; }
    .green { fill: #3fb950; }
    .yellow { fill: #d29922; }
"""


def names() -> list[str]:
    """Return the recordings that there are."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def svg(name: str) -> str:
    """Return the picture of a recording."""
    lines = (FOLDER / f"{name}{SUFFIX}").read_text().splitlines()
    columns = max(len(_COLOUR.sub("", line)) for line in lines)
    width, height = round(columns * _CHARACTER) + 2 * _MARGIN, len(lines) * _LINE + 2 * _MARGIN
    body = (element for row, line in enumerate(lines) for element in _row(row, line))
    return sheet(width, height, _COLOUR.sub("", lines[0]).removeprefix("# "), body, style=_STYLE, heads=())


def _row(row: int, line: str) -> Iterator[str]:
    """Yield the words of a line, those of one colour together, each where a terminal has it."""
    y = _MARGIN + row * _LINE + 13
    column = 0
    kind = "command" if line.startswith("# ") else "plain"
    pieces = _COLOUR.split(line)
    for words, code in zip(pieces[::2], [*pieces[1::2], ""]):
        if words.strip():
            yield _words(kind, column + len(words) - len(words.lstrip()), y, words.strip())
        column += len(words)
        kind = _CLASSES.get(code.rpartition(";")[2], "plain")


def _words(kind: str, column: int, y: int, words: str) -> str:
    spaced = escape(words).replace(" ", _SPACE)
    x, length = _MARGIN + column * _CHARACTER, len(words) * _CHARACTER
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" textLength="{length:.1f}">{spaced}</text>'
