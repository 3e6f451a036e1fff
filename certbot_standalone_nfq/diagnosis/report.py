"""Why validations failed, for the user and for the log: from the evidence, and what is known about this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from certbot_standalone_nfq.diagnosis import dns_rules
from certbot_standalone_nfq.diagnosis.evidence import Evidence, Seen
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.rules import Case, Diagnosis, HostFacts, diagnose
from certbot_standalone_nfq.engine.protocols import ChallengeId, Transport
from certbot_standalone_nfq.engine.verdicts import Answered
from certbot_standalone_nfq.settings import DNS_01
from certbot_standalone_nfq.wire.addresses import version_of


class Failure(NamedTuple):
    """A challenge that failed, the name it is for, and what the CA says about it."""

    name: str
    challenge: ChallengeId
    problem: Problem


@dataclass(frozen=True)
class Machine:
    """What is known about this machine, and about the names from here."""

    port: int
    found: Mapping[str, tuple[str, ...]]
    """The addresses of names, as looked up from here."""
    own: frozenset[str]
    """Of the addresses that matter, those that this machine has or may have."""
    translated: frozenset[int]
    """The IP versions by which this machine's packets leave from a private address, which a router may translate."""
    watched: bool
    """Whether incoming segments were watched, and none missed."""
    listening: frozenset[str] = frozenset()
    """Of the addresses that matter, those that a program listens at."""
    changing: tuple[str, ...] = ()
    """The firewall rules that change what this machine answers."""
    diverting: tuple[str, ...] = ()
    """Those that hand packets for the port to another program."""


def names_to_look_up(failures: Iterable[Failure]) -> list[str]:
    """Return the names whose addresses the CA does not tell."""
    by_address = [failure for failure in failures if failure.challenge.typ != DNS_01]
    return sorted({failure.name for failure in by_address if not failure.problem.addresses})


def addresses_that_matter(
    failures: Iterable[Failure], found: Mapping[str, tuple[str, ...]], evidence: Evidence
) -> set[str]:
    """Return the addresses that packets came for, that names have and that the CA used."""
    named = {address for failure in failures for address in failure.problem.addresses}
    looked_up = {address for addresses in found.values() for address in addresses}
    return {*named, *looked_up, *evidence.arrivals(), *(each.connection.local for each in evidence.attempts())}


def diagnoses(failures: Iterable[Failure], evidence: Evidence, machine: Machine) -> list[Diagnosis]:
    """Return the diagnosis of each failure."""
    # What was forwarded from here to other machines is no evidence about this one.
    attempts = [attempt for attempt in evidence.attempts() if attempt.connection.local in machine.own]
    arrivals = Counter({address: count for address, count in evidence.arrivals().items() if address in machine.own})
    served = evidence.served()

    def of(failure: Failure) -> Diagnosis:
        name, challenge, problem = failure
        seen = evidence.seen(challenge)
        case = Case(name, seen, attempts, arrivals, served, problem, _host_facts(failure, machine))
        return dns_rules.diagnose(case, challenge) if challenge.typ == DNS_01 else diagnose(case)

    return list(map(of, failures))


def _host_facts(failure: Failure, machine: Machine) -> HostFacts:
    found = machine.found.get(failure.name, ())
    known = failure.problem.addresses or found
    return HostFacts(
        port=machine.port,
        addresses=found,
        own=machine.own.intersection(known),
        translated=any(version_of(address) in machine.translated for address in known),
        watched=machine.watched,
        listening=machine.listening,
        changing=machine.changing,
        diverting=machine.diverting,
    )


def answered(name: str, count: int, event: Answered) -> str:
    """Return the log's line about an answer, the so many-th for a name's challenge."""
    peer = event.connection.peer
    transport = "" if event.transport is Transport.TCP else f" and {event.transport.name}"
    return (
        f"{name}: challenge request no. {count}, from {peer} over IPv{version_of(peer)}{transport}, "
        f"answered in {event.seconds * 1000:.1f} ms"
    )


def summary(name: str, seen: Seen) -> str:
    """Return the log's line about all answers for a name's challenge."""
    sources = {request.connection.peer for request in seen.requests}
    told = f"{name}: challenge requests answered: {seen.count}; sources: {len(sources)}"
    if any(request.transport is Transport.UDP for request in seen.requests):
        return told  # which has no acknowledgments
    return f"{told}; answers acknowledged: {sum(request.acknowledged for request in seen.requests)}"
