"""Why a validation failed: the cause that the evidence shows, and the facts behind it. No words here.

The rules are asked in turn, the most specific first. If none applies, nothing arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from certbot_standalone_nfq.diagnosis.attempts import Attempt
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.evidence import Seen
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.wire.addresses import is_address, version_of


@dataclass(frozen=True)
class HostFacts:
    """What is known about the machine and the name, apart from packets."""

    port: int
    addresses: tuple[str, ...] = ()
    """The name's, as looked up from here."""
    own: frozenset[str] = frozenset()
    """Those that this machine has, of the name's addresses and of those that the CA used."""
    translated: bool = False
    """Whether this machine's addresses are private, so that a router may translate others to them."""
    watched: bool = True
    """Whether incoming segments were watched, and none missed."""
    listening: frozenset[str] = frozenset()
    """The addresses that a program listens at."""
    changing: tuple[str, ...] = ()
    """The firewall rules that change what this machine answers."""
    diverting: tuple[str, ...] = ()
    """Those that hand packets for the port to another program."""


@dataclass(frozen=True)
class Diagnosis:
    """Why one name's validation failed, and the facts that show it."""

    cause: Cause
    name: str
    port: int
    count: int = 0
    """How many requests or connections the cause is about."""
    peers: tuple[str, ...] = ()
    """Where they came from."""
    addresses: tuple[str, ...] = ()
    """Those that the CA used, or that the name has."""
    headers: tuple[str, ...] = ()
    families: tuple[int, ...] = ()
    """The IP versions concerned."""
    kind: str = ""
    """The kind of problem that the CA reports."""
    arrived: int = 0
    """How many connection attempts arrived over the IP version that works, from any peer."""
    watched: bool = True
    translated: bool = False
    lost: int = 0
    """How many answers were not acknowledged, if others were."""
    listening: bool = False
    """Whether a program listens at the addresses."""
    rules: tuple[str, ...] = ()
    """Firewall rules that may be the reason."""
    asked: str = ""
    """For dns-01, the name that is asked for."""
    other_kinds: tuple[str, ...] = ()
    """The types of records, other than the answer's, that were asked for."""

    @property
    def is_of_address(self) -> bool:
        """Whether the certificate is for an address, not for a name (RFC 8738)."""
        return is_address(self.name)


@dataclass(frozen=True)
class Case:
    """The evidence about one failed challenge. Attempts and counts are of this machine's addresses only."""

    name: str
    seen: Seen
    attempts: Sequence[Attempt]
    arrivals: Counter[str]
    """How many connection attempts arrived, by the address they were for."""
    served: Counter[str]
    """How many of them sent data, by the same address."""
    problem: Problem
    host: HostFacts

    def arrived(self, *versions: int) -> int:
        """Return how many connection attempts arrived over these IP versions."""
        return sum(count for address, count in self.arrivals.items() if version_of(address) in versions)

    @property
    def spoken_to(self) -> tuple[str, ...]:
        """The addresses that the CA used, or may have used."""
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
    """Return the first cause that the evidence shows."""
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
    lost = sum(not request.acknowledged for request in requests)
    if lost == len(requests):
        return case.conclude(Cause.UNACKNOWLEDGED, rules=case.host.changing, **facts)
    if headers:
        return case.conclude(Cause.BEHIND_PROXY, headers=headers, lost=lost, **facts)
    return case.conclude(Cause.OTHER_PERSPECTIVE, lost=lost, **facts)


def _taken_by_another(case: Case) -> Diagnosis | None:
    unchanged = [attempt for attempt in case.seen.unanswered if not attempt.altered]
    if unchanged:
        return _about(case, Cause.OTHER_PROGRAM, unchanged, rules=case.host.diverting)
    return _about(case, Cause.ALTERED, case.seen.unanswered)


def _unfinished(case: Case) -> Diagnosis | None:
    return _about(case, Cause.UNFINISHED, case.seen.unfinished)


def _redirected(case: Case) -> Diagnosis | None:
    if not case.problem.was_redirected and not case.problem.other_name(case.name):
        return None
    return case.conclude(Cause.REDIRECTED, addresses=case.spoken_to)


def _answered_by_tls_or_http(case: Case) -> Diagnosis | None:
    """Diagnose what stands in front of this machine by what the CA says of the TLS it found."""
    if case.problem.met_other_tls:
        return case.conclude(Cause.TLS_TERMINATED, addresses=case.spoken_to)
    return case.conclude(Cause.NOT_TLS, addresses=case.spoken_to) if case.problem.met_no_tls else None


def _answered_by_another(case: Case) -> Diagnosis | None:
    if not case.problem.met_another_server:
        return None
    return case.conclude(Cause.ANOTHER_ANSWERED, addresses=case.spoken_to)


def _elsewhere(case: Case) -> Diagnosis | None:
    """Diagnose that the CA connected to another machine, which no translation of addresses can explain."""
    return None if case.host.translated else _not_this_machine(case)


def _elsewhere_or_not_forwarded(case: Case) -> Diagnosis | None:
    nothing_came = case.host.watched and not case.arrived(4, 6)
    return _not_this_machine(case) if nothing_came else None


def _not_this_machine(case: Case) -> Diagnosis | None:
    foreign = tuple(address for address in case.spoken_to if address not in case.host.own)
    return case.conclude(Cause.NOT_THIS_MACHINE, addresses=foreign) if foreign else None


def _failed_attempts(case: Case) -> Diagnosis | None:
    """Diagnose how most of the attempts ended that the CA may have made."""
    families = {version_of(address) for address in case.problem.addresses} or {4, 6}
    kinds: dict[Cause, list[Attempt]] = {}
    for attempt in case.attempts:
        cause = outcome(attempt) or _reported_by_ca(attempt, case)
        if cause and version_of(attempt.connection.peer) in families:
            kinds.setdefault(cause, []).append(attempt)
    if not case.host.watched:
        kinds.pop(Cause.DROPPED, None)  # its answer may have been missed
    if not kinds:
        return None
    cause = max(kinds, key=lambda each: len(kinds[each]))
    return _about(case, cause, kinds[cause])


def _one_family(case: Case) -> Diagnosis | None:
    used = {version_of(address) for address in case.spoken_to}
    silent = {version for version in used if not case.arrived(version)}
    working = {version for version in (4, 6) if case.arrived(version)}
    if not silent or not working or not case.host.watched:
        return None
    return case.conclude(
        Cause.ONE_FAMILY,
        families=tuple(sorted(silent)),
        addresses=tuple(address for address in case.spoken_to if version_of(address) in silent),
        arrived=case.arrived(*working),
    )


_RULES: tuple[Callable[[Case], Diagnosis | None], ...] = (
    _name_trouble,
    _answered,
    _unfinished,
    _taken_by_another,
    _redirected,
    _answered_by_tls_or_http,
    _elsewhere,
    _answered_by_another,
    _failed_attempts,
    _one_family,
    _elsewhere_or_not_forwarded,
)


def outcome(attempt: Attempt) -> Cause | None:
    """Return how an attempt failed, if its packets show that it did."""
    if attempt.refused:
        return Cause.REFUSED
    if attempt.observed_syns and not attempt.accepted:
        return Cause.DROPPED
    return Cause.RETURN_PATH if attempt.accepted and attempt.syns > 1 else None


def _reported_by_ca(attempt: Attempt, case: Case) -> Cause | None:
    """Return how an attempt failed that may be any client's open connection, judged by what the CA reports.

    It was refused only if no other client was served at the address that the CA names.
    """
    if case.problem.waited_for_an_answer:
        return Cause.NO_REQUEST
    local = attempt.connection.local
    refused = case.problem.was_refused and local in case.problem.addresses and not case.served[local]
    return Cause.REFUSED if refused else None


def _about(case: Case, cause: Cause, attempts: Sequence[Attempt], **facts: Any) -> Diagnosis | None:
    if not attempts:
        return None
    addresses = _distinct(attempt.connection.local for attempt in attempts)
    return case.conclude(
        cause,
        count=len(attempts),
        peers=_distinct(attempt.connection.peer for attempt in attempts),
        addresses=addresses,
        listening=case.host.listening.issuperset(addresses),
        families=tuple(sorted({version_of(attempt.connection.peer) for attempt in attempts})),
        **facts,
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
