"""What one validation leaves to explain it: the evidence, the log and the capture file."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.diagnosis import hints, report
from certbot_standalone_nfq.diagnosis.evidence import Evidence
from certbot_standalone_nfq.diagnosis.report import Failure, Machine
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered
from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.sockets import Listener, listeners
from certbot_standalone_nfq.session.observer import Observation
from certbot_standalone_nfq.session.pcap import Recording
from certbot_standalone_nfq.wire.addresses import VERSIONS

logger = logging.getLogger(__name__)

MAX_LOGGED = 20
"""Answers to one challenge that the log tells of one by one: more than CAs ask from. The summary counts them all."""
_LOOK_UP_SECONDS = 3.0


class Witness:
    """Records events from `start` to `stop`. Before and after, it can explain what it knows."""

    def __init__(self, port: int, *, observe: bool = True, capture: Path | None = None) -> None:
        self._port = port
        self._observe = observe
        self._capture = capture
        self._names: dict[str, str] = {}
        self._evidence = Evidence(registry.challenge_in)
        self._guard = threading.Lock()
        """Held while the evidence is used: by Certbot's thread, the loop's and the observation's."""
        self._observation: Observation | None = None
        self._recording: Recording | None = None

    def start(self) -> None:
        """Begin. A tap or a capture file that cannot be opened is logged, not raised."""
        self._recording = _recording(self._capture) if self._capture else None
        thorough = self._recording is not None
        self._evidence = Evidence(registry.challenge_in, registry.is_altered, capture=thorough)
        if self._observe:
            try:
                selectors = registry.selectors(self._port)
                self._observation = Observation(selectors, self._evidence, self._guard, thorough=thorough)
                self._observation.start()
            except (errors.Error, OSError) as error:
                logger.debug("Incoming segments cannot be watched: %s", error)

    def expect(self, challenge: str, name: str) -> None:
        """Note which name a challenge is for."""
        self._names[challenge] = name

    def tell(self, event: Answered | Acknowledged) -> None:
        """Take note of an event, on any thread."""
        with self._guard:
            count = self._evidence.record(event)
        if isinstance(event, Answered) and count <= MAX_LOGGED:
            logger.info(report.answered(self._names.get(event.challenge, event.challenge), count, event))

    def record(self, packet: bytes) -> None:
        """Keep a packet for the capture file, on any thread."""
        if self._recording:
            self._recording.add(packet)

    def explain(self, failures: Sequence[Failure], remarks: Sequence[str] = ()) -> str:
        """Return remarks and the hint on failed challenges, in at most six lines, and log each diagnosis."""
        if self._observation:
            self._observation.catch_up()
        found = resolver.look_up(report.names_to_look_up(failures), Deadline(_LOOK_UP_SECONDS))
        with self._guard:
            addresses = report.addresses_that_matter(failures, found, self._evidence)
        machine = self._machine(found, addresses)
        with self._guard:
            diagnoses = report.diagnoses(failures, self._evidence, machine)
        for diagnosis in diagnoses:
            logger.info("%s: %s: %s", diagnosis.name, diagnosis.cause.name, hints.words(diagnosis))
        return hints.hint(diagnoses, remarks)

    def stop(self) -> None:
        """Stop recording, log a summary, and write the capture file; each even if another fails."""
        with contextlib.ExitStack() as steps:  # the last one comes first
            steps.callback(self._write)
            steps.callback(self._sum_up)
            if self._observation:
                steps.callback(self._observation.stop)
                steps.callback(self._observation.catch_up)

    def _machine(self, found: dict[str, tuple[str, ...]], addresses: set[str]) -> Machine:
        serving = _listeners(self._port)
        return Machine(
            port=self._port,
            listening=frozenset(each for each in addresses if any(listener.serves(each) for listener in serving)),
            found=found,
            own=frozenset(address for address in addresses if resolver.is_local(address) is not False),
            translated=frozenset(version for version in VERSIONS if resolver.is_translated(version)),
            watched=self._observation is not None and not self._observation.missed,
        )

    def _sum_up(self) -> None:
        for challenge, name in self._names.items():
            with self._guard:
                seen = self._evidence.seen(challenge)
            logger.info(report.summary(name, seen))

    def _write(self) -> None:
        """Write the packets that were answered, and those that the tap saw of failures and handshakes."""
        if not self._recording:
            return
        with self._guard:
            packets = self._evidence.packets()
        for kept in packets:
            self._recording.add(kept.packet, kept.time)
        try:
            self._recording.write()
        except OSError as error:
            logger.warning("The capture file could not be written: %s", error)


def _listeners(port: int) -> list[Listener]:
    with contextlib.suppress(OSError):
        return list(listeners(port))
    return []


def _recording(path: Path) -> Recording | None:
    try:
        return Recording(path)
    except OSError as error:
        # The option is kept for renewals, which must not fail because a directory is missing.
        logger.warning("No packets are captured, as %s cannot be written: %s", path, error.strerror or error)
        return None
