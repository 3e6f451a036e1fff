"""How a run's rules are removed without listing any, and how it is known that nothing is left.

A listing may fail for reasons that have nothing to do with our rules. So success is never "none was shown": it is that
the last command, which the kernel refuses while something still refers to what it deletes, either succeeds or says
that there is nothing to delete.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Removal:
    """What removes the rules that one program added. Programs are given by their absolute paths."""

    transaction: tuple[str, ...]
    """The command that removes everything at once, or nothing."""
    script: str
    """Its input."""
    steps: tuple[tuple[str, ...], ...]
    """Where something is missing already: commands that each remove one rule, or the rules of one chain. Each may fail,
    and is repeated until it does, as a rule may be there twice."""
    proofs: tuple[tuple[str, ...], ...]
    """Commands that delete what the rules were in. If each succeeds, or says one of `absent`, nothing is left."""
    absent: tuple[str, ...]
    """What the program says, in the C locale, of something that is not there."""

    def proven_by(self, complaint: str) -> bool:
        """Whether a program that failed complained that there is nothing to delete."""
        return any(phrase in complaint for phrase in self.absent)


STEP_TRIES = 10
"""How often a step is repeated at most."""
