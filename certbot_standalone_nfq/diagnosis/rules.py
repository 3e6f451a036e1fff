"""Why a validation failed, as far as the evidence carries: a cause, and the facts it rests on. No words here.

The rules are asked in turn, the most specific first; what none of them knows leaves 'nothing arrived'.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from certbot_standalone_nfq.diagnosis.attempts import Attempt
from certbot_standalone_nfq.diagnosis.evidence import Seen
from certbot_standalone_nfq.diagnosis.problem import Problem


class Cause(enum.Enum):
    """What can be told apart."""

    NAME_TROUBLE = enum.auto()
    """The authority could not look the name up, or may not certify it."""
    UNACKNOWLEDGED = enum.auto()
    """Requests were answered, and no answer arrived."""
    BEHIND_PROXY = enum.auto()
    """Requests were answered, and had come through a proxy."""
    OTHER_PERSPECTIVE = enum.auto()
    """Requests were answered, and that is all that can be seen from here."""
    OTHER_PROGRAM = enum.auto()
    """Requests came to this machine, and the plugin did not get them."""
    REDIRECTED = enum.auto()
    """The authority was redirected by something that is not this machine's server."""
    NOT_THIS_MACHINE = enum.auto()
    """The authority spoke to an address that is not this machine's."""
    REFUSED = enum.auto()
    """Connections were refused by this machine."""
    DROPPED = enum.auto()
    """Connection attempts got no answer of this machine."""
    RETURN_PATH = enum.auto()
    """This machine's answers to connection attempts did not arrive."""
    NO_REQUEST = enum.auto()
    """Connections were opened, and no request came over them."""
    ONE_FAMILY = enum.auto()
    """One IP version brings connections; the one that the authority used does not."""
    NOTHING = enum.auto()
    """No request came."""


@dataclass(frozen=True)
class HostFacts:
    """What is known of the machine and of the name, apart from packets."""

    port: int
    addresses: tuple[str, ...] = ()
    """The name's, as looked up from here."""
    own: frozenset[str] = frozenset()
    """Those of the name's and the authority's that are this machine's."""
    translated: bool = False
    """Whether this machine's addresses are private, so that others may stand for them outside."""
    watched: bool = True
    """Whether the edge was looked at, and nothing missed."""


@dataclass(frozen=True)
class Diagnosis:
    """A cause on one name's failure, and what it rests on."""

    cause: Cause
    name: str
    port: int
    count: int = 0
    """Of requests or connections that the cause is about."""
    peers: tuple[str, ...] = ()
    """Where they came from."""
    addresses: tuple[str, ...] = ()
    """What the authority spoke to, or the name leads to."""
    headers: tuple[str, ...] = ()
    families: tuple[int, ...] = ()
    """The IP versions concerned."""
    kind: str = ""
    """The authority's kind of problem."""
    arrived: int = 0
    """Connection attempts that arrived from anybody over the IP version that works."""
    watched: bool = True
    translated: bool = False

    @property
    def is_of_address(self) -> bool:
        """Whether what was to be certified is an address and no name (RFC 8738)."""
        try:
            ipaddress.ip_address(self.name)
        except ValueError:
            return False
        return True


@dataclass(frozen=True)
class Case:
    """All there is to go by for one failed challenge. Attempts and counts are of this machine's addresses only."""

    name: str
    seen: Seen
    attempts: Sequence[Attempt]
    arrivals: Counter[str]
    """Connection attempts of others, by the address they were for."""
    served: Counter[str]
    """Those of them that brought data, likewise."""
    problem: Problem
    host: HostFacts

    def arrived(self, *versions: int) -> int:
        """Return how many connection attempts of others came over these IP versions."""
        return sum(count for address, count in self.arrivals.items() if _version(address) in versions)

    @property
    def spoken_to(self) -> tuple[str, ...]:
        """The addresses that the authority used, or may have used."""
        return self.problem.addresses or self.host.addresses

    def conclude(self, cause: Cause, **facts: Any) -> Diagnosis:
        """Return a diagnosis of this case."""
        around = self.host
        return Diagnosis(
            cause,
            self.name,
            around.port,
            kind=self.problem.kind,
            watched=around.watched,
            translated=around.translated,
            **facts,
        )


def diagnose(case: Case) -> Diagnosis:
    """Return the first cause that the evidence carries."""
    for rule in _RULES:
        found = rule(case)
        if found:
            return found
    return case.conclude(Cause.NOTHING, addresses=case.spoken_to, arrived=case.arrived(4, 6))


def _name_trouble(case: Case) -> Diagnosis | None:
    if not case.problem.is_of_the_name(case.name):
        return None
    return case.conclude(Cause.NAME_TROUBLE, count=case.seen.count)


def _answered(case: Case) -> Diagnosis | None:
    requests = case.seen.requests
    if not requests:
        return None
    facts = {"count": case.seen.count, "peers": _distinct(request.connection.peer for request in requests)}
    headers = _distinct(header for request in requests for header in request.forwarded_by)
    if not any(request.acknowledged for request in requests):
        return case.conclude(Cause.UNACKNOWLEDGED, **facts)
    if headers:
        return case.conclude(Cause.BEHIND_PROXY, headers=headers, **facts)
    return case.conclude(Cause.OTHER_PERSPECTIVE, **facts)


def _taken_by_another(case: Case) -> Diagnosis | None:
    return _about(case, Cause.OTHER_PROGRAM, case.seen.unanswered)


def _redirected(case: Case) -> Diagnosis | None:
    if not case.problem.was_redirected and not case.problem.other_name(case.name):
        return None
    return case.conclude(Cause.REDIRECTED, addresses=case.spoken_to)


def _elsewhere(case: Case) -> Diagnosis | None:
    """Tell that the authority spoke to another machine, where no translation of addresses can be the reason."""
    return None if case.host.translated else _not_this_machine(case)


def _elsewhere_or_not_forwarded(case: Case) -> Diagnosis | None:
    nothing_came = case.host.watched and not case.arrived(4, 6)
    return _not_this_machine(case) if nothing_came else None


def _not_this_machine(case: Case) -> Diagnosis | None:
    foreign = tuple(address for address in case.spoken_to if address not in case.host.own)
    return case.conclude(Cause.NOT_THIS_MACHINE, addresses=foreign) if foreign else None


def _failed_attempts(case: Case) -> Diagnosis | None:
    """Tell what most of the attempts came to that the authority may have made."""
    families = {_version(address) for address in case.problem.addresses} or {4, 6}
    kinds: dict[Cause, list[Attempt]] = {}
    for attempt in case.attempts:
        cause = outcome(attempt) or _met_by_the_authority(attempt, case)
        if cause and _version(attempt.connection.peer) in families:
            kinds.setdefault(cause, []).append(attempt)
    if not case.host.watched:
        kinds.pop(Cause.DROPPED, None)  # it may have been answered, and that missed
    if not kinds:
        return None
    cause = max(kinds, key=lambda each: len(kinds[each]))
    return _about(case, cause, kinds[cause])


def _one_family(case: Case) -> Diagnosis | None:
    used = {_version(address) for address in case.spoken_to}
    silent = {version for version in used if not case.arrived(version)}
    working = {version for version in (4, 6) if case.arrived(version)}
    if not silent or not working or not case.host.watched:
        return None
    return case.conclude(
        Cause.ONE_FAMILY,
        families=tuple(sorted(silent)),
        addresses=tuple(address for address in case.spoken_to if _version(address) in silent),
        arrived=case.arrived(*working),
    )


_RULES: tuple[Callable[[Case], Diagnosis | None], ...] = (
    _name_trouble,
    _answered,
    _taken_by_another,
    _redirected,
    _elsewhere,
    _failed_attempts,
    _one_family,
    _elsewhere_or_not_forwarded,
)


def outcome(attempt: Attempt) -> Cause | None:
    """Say how an attempt failed, if its packets show that it did."""
    if attempt.refused:
        return Cause.REFUSED
    if attempt.observed_syns and not attempt.accepted:
        return Cause.DROPPED
    return Cause.RETURN_PATH if attempt.accepted and attempt.syns > 1 else None


def _met_by_the_authority(attempt: Attempt, case: Case) -> Cause | None:
    """Say what an attempt was that may be anybody's open connection, going by what the authority says it met.

    It was refused only if nobody else was served at the address that the authority names.
    """
    if case.problem.waited_for_an_answer:
        return Cause.NO_REQUEST
    local = attempt.connection.local
    refused = case.problem.was_refused and local in case.problem.addresses and not case.served[local]
    return Cause.REFUSED if refused else None


def _about(case: Case, cause: Cause, attempts: Sequence[Attempt]) -> Diagnosis | None:
    if not attempts:
        return None
    return case.conclude(
        cause,
        count=len(attempts),
        peers=_distinct(attempt.connection.peer for attempt in attempts),
        addresses=_distinct(attempt.connection.local for attempt in attempts),
        families=tuple(sorted({_version(attempt.connection.peer) for attempt in attempts})),
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version
