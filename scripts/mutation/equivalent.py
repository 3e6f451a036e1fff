"""The mutants that make no difference: read from `equivalent.txt`.

An entry is a paragraph: the file and function; what is changed (-) and what it may be changed to (+, a line each); the
reason. It holds wherever in the function the line is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.mutation.mutants import Mutant

LIST = Path(__file__).with_name("equivalent.txt")


@dataclass(frozen=True)
class Entry:
    """Changes that make no difference, all to the same lines."""

    place: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    """Each of them makes no difference."""
    reason: str

    @classmethod
    def of(cls, paragraph: str) -> Entry:
        """Read an entry. Raises ValueError if it is not complete."""
        place, *lines = paragraph.splitlines()
        before, after = (tuple(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        reason = " ".join(line.strip() for line in lines if line[0] not in "-+")
        if not (before and after and reason):
            raise ValueError(f"not an entry: {paragraph!r}")
        return cls(place, before, after, reason)

    def matches(self, mutant: Mutant) -> bool:
        """Whether it is about this mutant."""
        before, after = mutant.change
        here = f"{mutant.path} {mutant.function}".strip() == self.place and before == self.before
        return here and len(after) == 1 and after[0] in self.after


def entries(path: Path = LIST) -> list[Entry]:
    """Return what is listed."""
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    return [Entry.of(paragraph.strip("\n")) for paragraph in paragraphs if paragraph.strip()]
