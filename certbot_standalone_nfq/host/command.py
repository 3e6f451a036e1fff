"""A time limit that several steps share."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

_SECONDS_PER_PROGRAM = 1.0


class Deadline:
    """A moment, so many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())


@dataclass(frozen=True)
class Output:
    """What a program printed, or why there is nothing."""

    text: str
    complaint: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the program ran, ended in time and with exit status 0."""
        return not self.complaint


def output_of(command: Sequence[str], deadline: Deadline) -> Output:
    """Run a program that changes nothing, for a second at most. Whatever goes wrong is in the output's complaint."""
    seconds = min(_SECONDS_PER_PROGRAM, deadline.remaining())
    if not seconds:
        return Output("", "there was no time left to run it")
    try:
        result = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Output("", f"it did not end within {seconds:.1g} seconds")
    except OSError as error:
        return Output("", error.strerror or str(error))
    if result.returncode:
        return Output("", " ".join(result.stderr.split()) or f"exit status {result.returncode}")
    return Output(result.stdout)
