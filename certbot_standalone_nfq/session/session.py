"""One validation: the challenges of a port, answered while they are pending, and explained if they fail."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.diagnosis.report import Failure
from certbot_standalone_nfq.host import refusals
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.session.acceptor import Answering
from certbot_standalone_nfq.session.interception import Interception
from certbot_standalone_nfq.session.listener import FallbackListener
from certbot_standalone_nfq.session.witness import Witness
from certbot_standalone_nfq.settings import Settings

logger = logging.getLogger(__name__)


class Session:
    """Owns all that a validation holds, from `open` to `close`. For one thread; an exception may interrupt any method.

    Whatever was interrupted, `close` releases everything. It may be called at any time, and again.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare. This changes nothing."""
        self._settings = settings
        self._interception: Interception | None = None
        self._pending: set[tuple[str, str]] = set()
        self._witness = Witness(settings.port, observe=settings.evidence, capture=settings.pcap)
        self._held = contextlib.ExitStack()
        self.is_open = False

    @property
    def is_idle(self) -> bool:
        """Whether no challenge is pending."""
        return not self._pending

    @refusals.explained()
    def open(self) -> None:
        """Capture requests, and listen where nothing else does. All or nothing: raises one of the package's errors."""
        self.is_open = True
        try:
            self._hold("Watching connections", self._witness.stop)
            self._witness.start()
            record = self._witness.record if self._settings.pcap else None
            rules = take_snapshot()
            interception = self._interception = Interception(self._settings, rules, self._witness.tell, record)
            self._hold("Capturing", functools.partial(_stop, interception))
            answering = Answering(interception.recognise, registry.refusal())
            listener = FallbackListener(self._settings.port, self._settings.address, rules, answering)
            self._hold("Listening", listener.stop)
            listener.start()
        except BaseException:
            self.close()
            raise

    @refusals.explained()
    def add(self, typ: str, challenge: str, name: str, answer: str) -> None:
        """Answer a challenge of a type from now on, given its key and the name it is for. Raises ValueError."""
        if not self._interception:
            raise RuntimeError("the session is not open")
        self._pending.add((typ, challenge))
        self._witness.expect(challenge, name)
        self._interception.answer(typ, challenge, answer)

    def remove(self, typ: str, challenge: str) -> None:
        """Leave further requests for a challenge to the server; answers under way are completed."""
        self._pending.discard((typ, challenge))
        if self._interception:
            self._interception.withdraw(typ, challenge)

    def explain(self, failures: Sequence[Failure]) -> str:
        """Return what did and did not arrive of failed challenges, in at most six lines. Also before `open`."""
        remarks = self._interception.remarks() if self._interception else []
        return self._witness.explain(failures, remarks)

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
