"""Looks after the rules while challenges are pending, as another program may remove them: a reload of the firewall."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.protocols import Capture

logger = logging.getLogger(__name__)

SECONDS = 2.0
"""Between two looks. Each runs one program for each IP version."""
REMARK = (
    "Another program removed this plugin's firewall rules while challenges were pending, as a reload of the firewall "
    "does. Requests that came then were answered by the web server. Try again when nothing changes the firewall."
)


class Keeping(Protocol):
    """What looks after a capture from `start` to `stop`."""

    remarks: list[str]
    """What the user should know if a validation fails."""

    def start(self) -> None:
        """Begin. If that is interrupted, `stop` undoes it."""

    def stop(self) -> None:
        """End."""

    def look(self) -> object:
        """Look now, on any thread."""


class Keeper:
    """Looks every few seconds, from `start` to `stop`, and once more then."""

    def __init__(self, capture: Capture[Any]) -> None:
        """Prepare. The capture is the caller's to close, after `stop`."""
        self._capture = capture
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standalone-nfq-rules", daemon=True)
        self.remarks: list[str] = []
        """What the user should know if a validation fails."""

    def start(self) -> None:
        """Start the thread. If that is interrupted, `stop` undoes it."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
            self.look()

    def look(self) -> None:
        """Look now, on any thread."""
        try:
            missing = self._capture.restore()
        except errors.Error as error:
            logger.warning(
                "Another program removed this plugin's firewall rules. They could not be added again: %s", error
            )
            missing = True
        if missing and not self.remarks:
            logger.warning(REMARK)
        if missing:
            self.remarks = [REMARK]

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            self.look()
