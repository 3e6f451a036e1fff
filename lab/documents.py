"""The commands that documents give, for tests to run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_SECTION = re.compile(r"^#+ (.+)\n((?:(?!#+ )(?:```[^`]*```|.*)\n)*)", re.MULTILINE)
_BLOCK = re.compile(r"^```\w*\n([^`]*)^```$", re.MULTILINE)


def blocks(document: str, heading: str) -> list[str]:
    """Return the blocks of code between a heading of docs/ and the next heading, in order."""
    sections = dict(_SECTION.findall((DOCS / document).read_text()))
    return _BLOCK.findall(sections[heading])


def file_of(document: str, name: str) -> str:
    """Return the content of a file that a document of docs/ says to write."""
    _, _, behind = (DOCS / document).read_text().partition(f"File `{name}`:\n")
    (content, *_) = _BLOCK.findall(behind)
    return str(content)
