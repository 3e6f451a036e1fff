"""The mutants that make no difference: read from `equivalent.txt`.

An entry is a paragraph: the file and function, the lines before (-) and after (+) the change, and the reason. It holds
wherever in the function the lines are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.mutation.mutants import Mutant

LIST = Path(__file__).with_name("equivalent.txt")


@dataclass(frozen=True)
class Entry:
    """A change that makes no difference."""

    place: str
    change: tuple[tuple[str, ...], tuple[str, ...]]
    reason: str

    @classmethod
    def of(cls, paragraph: str) -> Entry:
        """Read an entry. Raises ValueError if it is not complete."""
        place, *lines = paragraph.splitlines()
        before, after = (tuple(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        reason = " ".join(line.strip() for line in lines if line[0] not in "-+")
        if not (before and after and reason):
            raise ValueError(f"not an entry: {paragraph!r}")
        return cls(place, (before, after), reason)

    def matches(self, mutant: Mutant) -> bool:
        """Whether it is about this mutant."""
        return self.place == f"{mutant.path} {mutant.function}".strip() and self.change == mutant.change


def entries(path: Path = LIST) -> list[Entry]:
    """Return what is listed."""
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    return [Entry.of(paragraph.strip("\n")) for paragraph in paragraphs if paragraph.strip()]
