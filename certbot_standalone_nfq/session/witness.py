"""What is seen of validations on one port, to explain them: the evidence, the log, and packets for the capture file."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.diagnosis import hints, report
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.diagnosis.report import Failure, Machine
from certbot_standalone_nfq.diagnosis.rules import Diagnosis
from certbot_standalone_nfq.engine.protocols import ChallengeId, Declined
from certbot_standalone_nfq.engine.verdicts import Answered, Event
from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import changing_answers, diverting
from certbot_standalone_nfq.host.sockets import Listener, listeners
from certbot_standalone_nfq.session.observer import Observation
from certbot_standalone_nfq.session.pcap import Recording
from certbot_standalone_nfq.wire.addresses import VERSIONS

logger = logging.getLogger(__name__)

MAX_LOGGED = 20
"""Answers to one challenge that the log tells of one by one: more than CAs ask from. The summary counts them all."""


class Witness:
    """Records events from `start` to `stop`. Before and after, it can explain what it knows."""

    def __init__(
        self,
        port: ChallengePort,
        *,
        observe: bool = True,
        recording: Recording | None = None,
        rules: Snapshot | None = None,
    ) -> None:
        """Prepare, with the capture file that packets are for, and the firewall rules that were there before ours."""
        self._port = port
        self._observe = observe
        self._recording = recording
        transports = dict.fromkeys(selector.transport for selector in port.selectors())
        self._tables = [table for each in transports for table in rules.over(each)] if rules else []
        self._names: dict[ChallengeId, str] = {}
        self._evidence = Evidence(port.challenge_in)
        self._guard = threading.Lock()
        """Held while the evidence is used: by Certbot's thread, the loop's and the observation's."""
        self._observation: Observation | None = None
        self._declined: set[Declined] = set()

    def start(self) -> None:
        """Begin. A tap that cannot be opened is logged, not raised."""
        thorough = self._recording is not None
        port = self._port
        self._evidence = Evidence(port.challenge_in, port.is_altered, port.question_in, capture=thorough)
        if self._observe:
            try:
                selectors = self._port.selectors()
                self._observation = Observation(selectors, self._evidence, self._guard, thorough=thorough)
                self._observation.start()
            except (errors.Error, OSError) as error:
                logger.debug("Incoming segments cannot be watched: %s", error)

    def expect(self, challenge: ChallengeId, name: str) -> None:
        """Note which name a challenge is for."""
        self._names[challenge] = name

    def tell(self, event: Event) -> None:
        """Take note of an event, on any thread."""
        if isinstance(event, Declined):
            self._warn_of(event)
            return
        with self._guard:
            count = self._evidence.record(event)
        if isinstance(event, Answered) and count <= MAX_LOGGED:
            logger.info(report.answered(self._names.get(event.challenge, event.challenge.key), count, event))

    def _warn_of(self, declined: Declined) -> None:
        """Log once why challenges are left to the server."""
        level = logging.DEBUG if declined in self._declined else logging.WARNING
        self._declined.add(declined)
        logger.log(level, "There are %s, so further ones go to the server.", declined.reason)

    def remarks(self) -> list[str]:
        """Return what the user should know if a challenge has failed."""
        return [f"There were {declined.reason}, so further ones went to the server." for declined in self._declined]

    def record(self, packet: bytes) -> None:
        """Keep a packet for the capture file, on any thread."""
        if self._recording:
            self._recording.add(packet)

    def explain(self, failures: Sequence[Failure], found: Mapping[str, tuple[str, ...]]) -> list[Diagnosis]:
        """Return the diagnoses of failed challenges, given the addresses of names as looked up, and log each."""
        if self._observation:
            self._observation.catch_up()
        with self._guard:
            addresses = report.addresses_that_matter(failures, found, self._evidence)
        machine = self._machine(found, addresses)
        with self._guard:
            diagnoses = report.diagnoses(failures, self._evidence, machine)
        for diagnosis in diagnoses:
            logger.info("%s: %s: %s", diagnosis.name, diagnosis.cause.name, hints.explained(diagnosis))
        return diagnoses

    def stop(self) -> None:
        """Stop looking, log a summary, and keep what was seen for the capture file; each even if another fails."""
        with contextlib.ExitStack() as steps:  # the last one comes first
            steps.callback(self._keep_seen)
            steps.callback(self._sum_up)
            if self._observation:
                steps.callback(self._observation.stop)
                steps.callback(self._observation.catch_up)

    def _machine(self, found: Mapping[str, tuple[str, ...]], addresses: set[str]) -> Machine:
        serving = _listeners(self._port.number)
        return Machine(
            port=self._port.number,
            listening=frozenset(each for each in addresses if any(listener.serves(each) for listener in serving)),
            found=found,
            own=frozenset(address for address in addresses if resolver.is_local(address) is not False),
            translated=frozenset(version for version in VERSIONS if resolver.is_translated(version)),
            watched=self._observation is not None and not self._observation.missed,
            changing=tuple(dict.fromkeys(rule.text for rule in changing_answers(self._tables, self._port.number))),
            diverting=tuple(dict.fromkeys(rule.text for rule in diverting(self._tables, self._port.number))),
        )

    def _sum_up(self) -> None:
        for challenge, name in self._names.items():
            with self._guard:
                seen = self._evidence.seen(challenge)
            logger.info(report.summary(name, seen))

    def _keep_seen(self) -> None:
        """Keep the packets that the tap saw of failures and handshakes, beside those that were answered."""
        if not self._recording:
            return
        with self._guard:
            packets = self._evidence.packets()
        for kept in packets:
            self._recording.add(kept.packet, kept.time)


def _listeners(port: int) -> list[Listener]:
    with contextlib.suppress(OSError):
        return list(listeners(port))
    return []
