"""What a way to add firewall rules has to offer, and the life of one run's rules."""

from __future__ import annotations

import enum
import logging
import threading
from types import TracebackType
from typing import Protocol

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, RunId
from certbot_standalone_nfq.capture.nfqueue.removal import Removal
from certbot_standalone_nfq.host.firewall.rules import Rule

logger = logging.getLogger(__name__)


def warn_of_leftovers(program: str) -> None:
    """Log that nothing is known about the rules of interrupted runs."""
    logger.warning(
        "Whether an interrupted run left firewall rules behind is unknown, as %s cannot list them. They let packets "
        "pass. See Certbot's log for the reason.",
        program,
    )


class RuleWriter(Protocol):
    """One program that adds rules to the kernel. Everything that its methods raise is one of the package's errors."""

    def install(self, allocation: Allocation, hold_open: int) -> None:
        """Add the rules of a run; where that fails, part of them may be left.

        Programs that are run for it inherit the file descriptor, so that it is closed only after they have ended.
        """

    def is_missing(self, allocation: Allocation) -> bool:
        """Whether another program removed the rules."""

    def withdraw(self, allocation: Allocation) -> bool:
        """Send no further packet to the queue, and do nothing to those in it; return whether rules are left."""

    def remove(self, run_id: RunId, port: int, /) -> None:
        """Remove all rules of a run, which most likely were for a port; what is not there is no error.

        Returns only if it is proven that nothing is left.
        """

    def installed(self) -> set[RunId]:
        """Return all runs whose rules, or parts of them, are there. It is logged if that cannot be found out."""

    def conflicts(self, allocation: Allocation, rule: Rule) -> bool:
        """Whether another program's rule uses the queue or the marks."""

    def removals(self, allocation: Allocation) -> list[Removal]:
        """Return how to remove the rules, for a process that outlives this one."""


class State(enum.Enum):
    """What is there of a run's rules."""

    ABSENT = enum.auto()
    STANDING = enum.auto()
    """All of them, or as much as an installation that failed has left."""
    WITHDRAWN = enum.auto()
    """None that sends packets to the queue."""
    UNKNOWN = enum.auto()
    """Removing them failed or was interrupted, or is under way. It is not tried again: that is the watchdog's part."""


class Rules:
    """The rules of one run. As an exit of a context, removes them. For use by several threads."""

    def __init__(self, writer: RuleWriter, allocation: Allocation, *, lasting: bool = False) -> None:
        """Prepare; `lasting` rules are restored however often another program removes them."""
        self._writer = writer
        self._allocation = allocation
        self._lasting = lasting
        self._lock = threading.RLock()  # an interruption may remove them while this thread adds them
        self._hold_open = -1
        self._restored = False
        self.state = State.ABSENT

    def install(self, hold_open: int) -> None:
        """Add them; see RuleWriter."""
        with self._lock:
            self.state = State.STANDING
            self._hold_open = hold_open
            self._writer.install(self._allocation, hold_open)

    def restore(self) -> bool:
        """Add them again if another program removed them, once only or always; return whether they were missing.

        Raises one of the package's errors if that fails.
        """
        with self._lock:
            if self.state is not State.STANDING or not self._is_missing():
                return False
            if self._lasting or not self._restored:
                self._restored = True
                self.remove()  # what is left of them
                self.install(self._hold_open)
            return True

    def withdraw(self) -> None:
        """Send no further packet to the queue. Raises one of the package's errors."""
        with self._lock:
            if self.state is State.STANDING:
                self.state = State.UNKNOWN
                rules_are_left = self._writer.withdraw(self._allocation)
                self.state = State.WITHDRAWN if rules_are_left else State.ABSENT

    def remove(self) -> None:
        """Remove what is there. Raises one of the package's errors."""
        with self._lock:
            self.withdraw()
            if self.state is State.WITHDRAWN:
                self.state = State.UNKNOWN
                self._writer.remove(self._allocation.run_id, self._allocation.port)
                self.state = State.ABSENT

    def _is_missing(self) -> bool:
        try:
            return self._writer.is_missing(self._allocation)
        except errors.Error as error:
            logger.debug("Whether the rules are there could not be found out: %s", error)
            return False

    def __enter__(self) -> Rules:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Remove what is there. An error that led here says more than one that follows from it."""
        try:
            self.remove()
        except errors.Error as later:
            if error is None:
                raise
            logger.debug("The rules could not be removed: %s", later)
