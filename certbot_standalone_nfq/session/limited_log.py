"""Lines of the log that strangers can cause: so many, and then no more."""

from __future__ import annotations

import logging

LINES = 1000


class LimitedLog:
    """A logger's debug level, for a limited number of lines."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._left = LINES

    def debug(self, message: str, *arguments: object) -> None:
        """Log a line, if there were not too many. The last one says so."""
        if not self._left:
            return
        self._left -= 1
        self._logger.debug(message if self._left else f"{message} (further ones are not logged)", *arguments)
