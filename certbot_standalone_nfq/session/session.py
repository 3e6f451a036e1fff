"""One validation: challenges of any type, answered while they are pending, and explained if they fail."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.diagnosis import hints, report
from certbot_standalone_nfq.diagnosis.report import Failure
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.host import refusals, resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.session.leads import Leads
from certbot_standalone_nfq.session.pcap import Recording
from certbot_standalone_nfq.session.port_session import Pending, PortSession
from certbot_standalone_nfq.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_UP_SECONDS = 3.0


class Session:
    """Owns all that a validation holds, from `open` to `close`. For one thread; an exception may interrupt any method.

    Each port whose challenges are pending has a capture of its own. Whatever was interrupted, `close` releases
    everything. It may be called at any time, and again.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare. This changes nothing."""
        self._settings = settings
        self._ports = [PortSession(port, settings) for port in registry.by_port(settings.ports)]
        self._leads = Leads()
        self._recording: Recording | None = None
        self._held = contextlib.ExitStack()
        self.is_open = False

    @property
    def is_idle(self) -> bool:
        """Whether no challenge is pending."""
        return all(port.is_idle for port in self._ports)

    @refusals.explained()
    def open(self, challenges: Collection[ChallengeId]) -> None:
        """Capture requests for challenges, and listen where nothing else does; on ports that are not open yet.

        All or nothing: raises one of the package's errors, with everything closed.
        """
        try:
            self._leads.follow(challenges)
            asked_for = list(map(self._leads.owner, challenges))
            self._open_recording()
            rules = take_snapshot()
            for port in self._ports:
                validated = [challenge for challenge in asked_for if port.serves(challenge.typ)]
                if validated and not port.is_open:
                    self._held.callback(port.close)
                    port.open(validated, self._settings_of_next(), rules, self._recording)
        except BaseException:
            self.close()
            raise

    def _open_recording(self) -> None:
        if self.is_open:
            return
        self.is_open = True
        recording = self._recording = _recording(self._settings.pcap) if self._settings.pcap else None
        if recording:
            self._held.callback(_write, recording)

    def _settings_of_next(self) -> Settings:
        """Return the settings for one more port: a queue belongs to one port, so the next one gets the next number."""
        if self._settings.queue is None:
            return self._settings
        others = sum(port.is_open for port in self._ports)
        return dataclasses.replace(self._settings, queue=(self._settings.queue + others) % 0x10000)

    @refusals.explained()
    def add(self, challenge: ChallengeId, name: str, key_authorization: str) -> None:
        """Answer a challenge from now on, given the name it is for. Raises ValueError for a bad key."""
        self._port_of(challenge).add(Pending(self._leads.owner(challenge), key_authorization), name)

    def remove(self, challenge: ChallengeId, key_authorization: str) -> None:
        """Leave further requests for a challenge to the server; answers under way are completed."""
        self._port_of(challenge).remove(Pending(self._leads.owner(challenge), key_authorization))

    def explain(self, failures: Sequence[Failure]) -> str:
        """Return what did and did not arrive of failed challenges, in at most six lines. Also before `open`."""
        remarks = dict.fromkeys(remark for port in self._ports for remark in port.remarks())
        found = resolver.look_up(report.names_to_look_up(failures), Deadline(_LOOK_UP_SECONDS))
        failures = [failure._replace(challenge=self._leads.owner(failure.challenge)) for failure in failures]
        diagnoses = [diagnosis for port in self._ports for diagnosis in port.explain(failures, found)]
        return hints.hint(diagnoses, list(remarks))

    def close(self) -> None:
        """Finish pending answers, then release everything, each step even if another fails."""
        self.is_open = False
        self._held.close()

    def _port_of(self, challenge: ChallengeId) -> PortSession:
        return next(port for port in self._ports if port.serves(challenge.typ))


def _recording(path: Path) -> Recording | None:
    try:
        return Recording(path)
    except OSError as error:
        # The option is kept for renewals, which must not fail because a directory is missing.
        logger.warning("No packets are captured, as %s cannot be written: %s", path, error.strerror or error)
        return None


def _write(recording: Recording) -> None:
    try:
        recording.write()
    except OSError as error:
        logger.warning("The capture file could not be written: %s", error)
