"""The types of challenge there are: to add one is to add its folder, and its solver here."""

from __future__ import annotations

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.protocols import Selector, StreamSolver

SOLVERS: tuple[type[StreamSolver], ...] = (Http01Solver,)
"""Asked in this order what a stream is."""


def selectors(port: int) -> list[Selector]:
    """Return what to capture on a port for all types."""
    return [selector for solver in SOLVERS for selector in solver.selectors(port)]


def refusal() -> bytes:
    """Return what to send to a client that asks for something else, in the words of the first type that has any."""
    return next((solver.refusal for solver in SOLVERS if solver.refusal), b"")


def challenge_in(start: bytes) -> str | None:
    """Return the key of the challenge, of whichever type, that a stream asks for, or None if it asks for none."""
    keys = (solver.challenge_in(start) for solver in SOLVERS)
    return next((key for key in keys if key is not None), None)


def is_altered(start: bytes) -> bool:
    """Whether a request for a challenge was changed on its way, so that it is not to be answered."""
    return any(solver.is_altered(start) for solver in SOLVERS)
