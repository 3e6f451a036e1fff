"""Looks after the rules for days: puts them back however often another program removes them.

It sleeps until the kernel tells that rules were removed. Where it does not tell, which is so for iptables' legacy
variant, it looks twice a minute.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from typing import Any

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.protocols import Capture
from certbot_standalone_nfq.host.firewall.changes import RuleChanges, Told

logger = logging.getLogger(__name__)

WORDS = (b"certbot-nfq", b"mangle\0")
"""What messages about our rules, or about those that jump to them, have in them."""
SLOW_SECONDS = 30.0
"""Between two looks, where the kernel does not tell."""
RETRY_SECONDS = 5.0
"""After which it is tried again to put rules back, as another program may hold the firewall's lock."""
_SILENCE = 60.0
_PAUSE = 1.0
"""Seconds between two looks at least, whatever other programs do."""
_JOIN_SECONDS = 30.0


class Guard:
    """Looks after a capture's rules from `start` to `stop`; `changes` began before they were added."""

    def __init__(
        self,
        capture: Capture[Any],
        changes: RuleChanges | None,
        slow_seconds: float = SLOW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Prepare. Both are the caller's to close, after `stop`."""
        self._capture = capture
        self._changes = changes
        self._slow_seconds = slow_seconds
        self._retry_seconds = retry_seconds
        self._told = changes is not None and Told.ADDED in changes.take()
        self._silent: dict[str, float] = {}
        """What was logged last, and until when it is not logged again."""
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="standalone-nfq-rules", daemon=True)
        self.remarks: list[str] = []
        """Nothing: what happened is in the log."""

    def start(self) -> None:
        """Start the thread, if there are rules to look after."""
        if self._capture.by_rules:
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            os.write(self._wake_write, b"\0")
            self._thread.join(_JOIN_SECONDS)
        os.close(self._wake_write)
        os.close(self._wake_read)

    def look(self) -> bool:
        """Look now, and put back what is missing; return whether that worked."""
        try:
            if self._capture.restore():
                self._log("Another program removed this plugin's firewall rules; they were added again.")
        except Exception as error:
            errors.raise_interruption(error)
            self._log(f"The firewall rules are missing, and could not be added again: {error}")
            return False
        return True

    def _log(self, words: str) -> None:
        """Log something, but the same only once in a while."""
        now = time.monotonic()
        level = logging.WARNING if now >= self._silent.get(words, now) else logging.DEBUG
        if level == logging.WARNING:
            self._silent = {words: now + _SILENCE}
        logger.log(level, "%s", words)

    def _run(self) -> None:
        seconds = self._seconds()
        while not self._is_stopped_within(seconds):
            seconds = self._seconds() if self.look() else self._retry_seconds
            if self._sleeps(_PAUSE):
                return

    def _seconds(self) -> float | None:
        return None if self._told else self._slow_seconds

    def _is_stopped_within(self, seconds: float | None) -> bool:
        """Wait until there is a reason to look, for some seconds at most, or until `stop`: return whether it was."""
        deadline = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if self._changes:
            poll.register(self._changes, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = [descriptor for descriptor, _ in poll.poll(None if left is None else left * 1000)]
            if self._wake_read in ready:
                return True
            if not ready or Told.REMOVED in self._take():
                return False

    def _take(self) -> Told:
        try:
            return self._changes.take() if self._changes else Told.NOTHING
        except OSError as error:
            logger.warning("The kernel does not tell of removed rules any more: %s", error)
            self._changes, self._told = None, False
            return Told.REMOVED

    def _sleeps(self, seconds: float) -> bool:
        """Wait for some seconds; return whether `stop` ended that."""
        poll = select.poll()  # there may be more descriptors than select can take
        poll.register(self._wake_read, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
