"""The types of challenge there are: to add one is to add its folder, and its solver here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import ChallengeId, DatagramSolver, Question, Selector, StreamSolver

SOLVERS: tuple[type[StreamSolver], ...] = (Http01Solver, TlsAlpn01Solver, Dns01Solver)
"""The types that Certbot prefers come first. Those on one port are asked in this order what a stream is."""

DATAGRAM_SOLVERS: tuple[type[DatagramSolver], ...] = (Dns01Solver,)
"""Those of them that are answered over UDP, too."""


def solver(typ: str) -> type[StreamSolver]:
    """Return the solver of a type. Raises KeyError if there is none."""
    return {each.typ: each for each in SOLVERS}[typ]


@dataclass(frozen=True)
class ChallengePort:
    """A port, and the types of challenge that CAs validate there."""

    number: int
    solvers: tuple[type[StreamSolver], ...]
    expected: tuple[ChallengeId, ...] = ()
    """Challenges that will be pending there: some keys make a difference to what is captured."""

    @property
    def typs(self) -> frozenset[str]:
        """The names of the types."""
        return frozenset(solver.typ for solver in self.solvers)

    def selectors(self) -> list[Selector]:
        """Return what to capture for all types."""
        keys = {each.typ: [key for typ, key in self.expected if typ == each.typ] for each in self.solvers}
        return [selector for each in self.solvers for selector in each.selectors(self.number, keys[each.typ])]

    def challenge_in(self, start: bytes) -> ChallengeId | None:
        """Return the challenge, of whichever type, that a stream asks for, or None if it asks for none."""
        found = (solver.challenge_in(start) for solver in self.solvers)
        return next((challenge for challenge in found if challenge is not None), None)

    def question_in(self, message: bytes) -> Question | None:
        """Return what a datagram asks for, or None if it is no question, or no type is answered over UDP."""
        found = (solver.question_in(message) for solver in DATAGRAM_SOLVERS if solver.typ in self.typs)
        return next((question for question in found if question), None)

    def is_altered(self, start: bytes) -> bool:
        """Whether a request for a challenge was changed on its way, so that it is not to be answered."""
        return any(solver.is_altered(start) for solver in self.solvers)


def by_port(ports: Mapping[str, int], solvers: Sequence[type[StreamSolver]] = SOLVERS) -> list[ChallengePort]:
    """Return all ports of the types, given each one's; types may share a port."""
    numbers = dict.fromkeys(ports[solver.typ] for solver in solvers)
    return [
        ChallengePort(number, tuple(solver for solver in solvers if ports[solver.typ] == number)) for number in numbers
    ]
