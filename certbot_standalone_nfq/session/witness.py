"""The witness of one validation: it gathers the evidence, keeps the log, and explains a failure."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.diagnosis import hints
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.rules import Case, Diagnosis, HostFacts, diagnose
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered
from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.session.observer import Observation
from certbot_standalone_nfq.session.pcap import Recording
from certbot_standalone_nfq.wire.addresses import version_of

logger = logging.getLogger(__name__)

_LOOK_UP_SECONDS = 3.0


class Failure(NamedTuple):
    """A challenge that failed, and what the authority said of it."""

    name: str
    token: str
    problem: Problem


class Witness:
    """Looks on from its making until `stop`, and remembers."""

    def __init__(self, port: int, *, observe: bool = True, capture: Path | None = None) -> None:
        """Begin. What cannot be had, the edge or the capture file, is noted in the log: the validation does without."""
        self._port = port
        self._names: dict[str, str] = {}
        self._missed = 0
        self.recording = _recording(capture) if capture else None
        self._evidence = Evidence(registry.challenge_in, capture=self.recording is not None)
        self._observation: Observation | None = None
        self._watched = False
        if observe:
            self._look()

    def expect(self, token: str, name: str) -> None:
        """Know which name a token is for."""
        self._names[token] = name

    def tell(self, event: Answered | Acknowledged) -> None:
        """Take note of what the interception did."""
        count = self._evidence.record(event)
        if isinstance(event, Answered):
            peer = event.connection.peer
            logger.info(
                "%s: challenge request no. %d, from %s over IPv%d, answered in %.1f ms",
                self._names.get(event.challenge, event.challenge),
                count,
                peer,
                version_of(peer),
                event.seconds * 1000,
            )

    def stop(self) -> None:
        """Look no more; sum up in the log, and write the capture file."""
        if self._observation:
            self._observation.catch_up()
            self._missed = self._observation.missed
            self._observation.stop()
            self._observation = None
        for token, name in self._names.items():
            self._sum_up(token, name)
        if self.recording:
            self._write_recording(self.recording)

    def hint(self, failures: Sequence[Failure]) -> str:
        """Explain failures, in at most six lines."""
        diagnoses = self.diagnose(failures)
        for diagnosis in diagnoses:
            logger.info("%s: %s: %s", diagnosis.name, diagnosis.cause.name, hints.words(diagnosis))
        return hints.hint(diagnoses)

    def diagnose(self, failures: Sequence[Failure]) -> list[Diagnosis]:
        """Return the diagnosis of each failure."""
        if self._observation:
            self._observation.catch_up()
        names = sorted({failure.name for failure in failures if not failure.problem.addresses})
        found = resolver.look_up(names, Deadline(_LOOK_UP_SECONDS))
        arrivals, attempts = self._evidence.arrivals(), self._evidence.attempts()
        # What was forwarded here for other machines is no evidence of this one's.
        destinations = {*arrivals, *(attempt.connection.local for attempt in attempts)}
        own = {address for address in destinations if resolver.is_local(address) is not False}
        own_attempts = [attempt for attempt in attempts if attempt.connection.local in own]
        own_arrivals = Counter({address: count for address, count in arrivals.items() if address in own})
        served = self._evidence.served()
        return [
            diagnose(
                Case(
                    failure.name,
                    self._evidence.seen(failure.token),
                    own_attempts,
                    own_arrivals,
                    served,
                    failure.problem,
                    self._host_facts(failure.problem, found.get(failure.name, ())),
                )
            )
            for failure in failures
        ]

    def _look(self) -> None:
        try:
            self._observation = Observation(
                Http01Solver.selectors(self._port), self._evidence, thorough=self.recording is not None
            )
            self._watched = True
        except (errors.Error, OSError) as error:
            logger.debug("The machine's edge cannot be looked at: %s", error)

    def _host_facts(self, problem: Problem, found: tuple[str, ...]) -> HostFacts:
        known = problem.addresses or found
        missed = self._observation.missed if self._observation else self._missed
        return HostFacts(
            port=self._port,
            addresses=found,
            own=frozenset(address for address in known if resolver.is_local(address) is not False),
            translated=any(resolver.is_translated(version_of(address)) for address in known),
            watched=self._watched and not missed,
        )

    def _sum_up(self, token: str, name: str) -> None:
        seen = self._evidence.seen(token)
        logger.info(
            "%s: challenge requests answered: %d; sources: %d; answers acknowledged: %d",
            name,
            seen.count,
            len({request.connection.peer for request in seen.requests}),
            sum(request.acknowledged for request in seen.requests),
        )

    def _write_recording(self, recording: Recording) -> None:
        """Write the capture file: what the interception recorded, and what the edge saw of failures and handshakes."""
        for kept in self._evidence.packets():
            recording.add(kept.packet, kept.time)
        try:
            recording.write()
        except OSError as error:
            logger.warning("The capture file could not be written: %s", error)


def _recording(path: Path) -> Recording | None:
    try:
        return Recording(path)
    except OSError as error:
        # The option is kept for renewals, which must not fail for want of a folder to debug in.
        logger.warning("No packets are captured, as %s cannot be written: %s", path, error.strerror or error)
        return None
