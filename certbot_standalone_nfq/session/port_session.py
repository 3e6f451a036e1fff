"""All that a validation holds on one port: the tap, the capture, and the listener where nothing else listens."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.diagnosis.report import Failure
from certbot_standalone_nfq.diagnosis.rules import Diagnosis
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.session.acceptor import Answering
from certbot_standalone_nfq.session.interception import Interception
from certbot_standalone_nfq.session.listener import FallbackListener
from certbot_standalone_nfq.session.pcap import Recording
from certbot_standalone_nfq.session.witness import Witness
from certbot_standalone_nfq.settings import HTTP_01, Settings

logger = logging.getLogger(__name__)


class Pending(NamedTuple):
    """A challenge that is answered, and what with."""

    challenge: ChallengeId
    key_authorization: str


class PortSession:
    """Owns what is held on one port, from `open` to `close`, which releases it whatever was interrupted."""

    def __init__(self, port: ChallengePort, settings: Settings) -> None:
        """Prepare. This changes nothing."""
        self._port = port
        self._settings = settings
        self._witness = Witness(port, observe=settings.evidence)
        self._interception: Interception | None = None
        self._pending: set[Pending] = set()
        self._held = contextlib.ExitStack()
        self.is_open = False

    @property
    def is_idle(self) -> bool:
        """Whether no challenge is pending."""
        return not self._pending

    def serves(self, typ: str) -> bool:
        """Whether challenges of a type are validated on this port."""
        return typ in self._port.typs

    def open(
        self, expected: Collection[ChallengeId], settings: Settings, rules: Snapshot, recording: Recording | None
    ) -> None:
        """Capture requests for challenges, and listen where nothing else does, given the rules of other programs.

        Raises one of the package's errors. Call `close` then.
        """
        self.is_open = True
        port = dataclasses.replace(self._port, expected=tuple(expected))
        witness = self._witness = Witness(port, observe=settings.evidence, recording=recording, rules=rules)
        self._hold("Watching connections", witness.stop)
        witness.start()
        record = witness.record if recording else None
        interception = Interception(port, settings, rules, witness.tell, record)
        self._hold("Capturing", functools.partial(_stop, interception))
        interception.start()
        self._interception = interception
        answering = Answering(interception.recognise, interception.refuse, interception.reply)
        protocols = [socket.IPPROTO_TCP] + [socket.IPPROTO_UDP] * interception.has_datagrams
        for protocol in protocols:
            listener = FallbackListener(self._port.number, self._address, rules, answering, protocol=protocol)
            self._hold("Listening", listener.stop)
            listener.start()

    @property
    def _address(self) -> str:
        """The only address to listen at, or nothing for all."""
        return self._settings.address if self.serves(HTTP_01) else ""

    def add(self, pending: Pending, name: str) -> None:
        """Answer a challenge from now on, given the name it is for. Raises ValueError."""
        if not self._interception:
            raise RuntimeError("the session is not open")
        self._pending.add(pending)
        self._witness.expect(pending.challenge, name)
        self._interception.answer(*pending)

    def remove(self, pending: Pending) -> None:
        """Leave further requests for a challenge to the server; answers under way are completed."""
        self._pending.discard(pending)
        if self._interception:
            self._interception.withdraw(*pending)

    def explain(self, failures: Sequence[Failure], found: Mapping[str, tuple[str, ...]]) -> list[Diagnosis]:
        """Return the diagnoses of those failed challenges that are validated here, given names' addresses."""
        ours = [failure for failure in failures if self.serves(failure.challenge.typ)]
        return self._witness.explain(ours, found) if ours else []

    def remarks(self) -> list[str]:
        """Return what the user should know if a challenge has failed, as of now."""
        of_rules = self._interception.remarks() if self._interception else []
        return [*of_rules, *self._witness.remarks()]

    def close(self) -> None:
        """Finish pending answers, then release everything, each step even if another fails."""
        self.is_open = False
        self._held.close()

    def _hold(self, what: str, release: Callable[[], None]) -> None:
        self._held.callback(_release, what, release)


def _release(what: str, release: Callable[[], None]) -> None:
    """Take one step of closing; a failure is logged, so that the next step is taken."""
    try:
        release()
    except Exception as error:
        errors.raise_interruption(error)
        logger.warning("%s did not end properly: %s", what, error)
        logger.debug("The traceback:", exc_info=True)


def _stop(interception: Interception) -> None:
    try:
        interception.stop()
    except errors.Error as error:
        logger.warning(
            "The firewall rules could not be removed. This is tried again when Certbot ends, and by the next run; "
            "until then they let packets pass. %s",
            getattr(error, "said", error),
        )
