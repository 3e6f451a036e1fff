"""Running other programs, and the time limits that several steps share."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Searched behind PATH, which in a cron job or under sudo often lacks them."""


class Deadline:
    """A moment, so many seconds from now, and how long one step before it may take."""

    def __init__(self, seconds: float, step: float = math.inf) -> None:
        self._end = time.monotonic() + seconds
        self._step = step

    def remaining(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def for_step(self) -> float:
        """Return the seconds that one step may take from now on."""
        return min(self._step, self.remaining())


@dataclass(frozen=True)
class Result:
    """What came of running a program."""

    status: int | None
    """The exit status, negative for a signal; None if the program did not start, or did not end in time."""
    stdout: str = ""
    stderr: str = ""
    failure: str = ""
    """Why there is no exit status, in words."""
    timed_out: bool = False

    @property
    def complaint(self) -> str:
        """Why the program did not succeed, on one line; empty if it did."""
        if self.status is None:
            return self.failure
        if self.status == 0:
            return ""
        return " ".join(self.stderr.split()) or f"exit status {self.status}"


def find_program(name: str) -> str | None:
    """Return a program's absolute path, or None. Folders of PATH that depend on the working directory do not count."""
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(folder).is_absolute()]
    return shutil.which(name, path=os.pathsep.join([*folders, *SBIN]))


def run(command: Sequence[str], *, seconds: float, stdin: str = "", pass_fds: tuple[int, ...] = ()) -> Result:
    """Run a program, given by its absolute path, and wait for its end; after so many seconds it is killed.

    It speaks the C locale's language and inherits only the file descriptors that are named. Bytes of its output that
    are not UTF-8 become backslash escapes. Raises nothing: the result says what went wrong.
    """
    if seconds <= 0:
        return Result(None, failure="there was no time left to run it")
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            env={**os.environ, "LC_ALL": "C"},
            pass_fds=pass_fds,
        ) as process:
            stdout, stderr = _communicate(process, stdin, seconds)
    except subprocess.TimeoutExpired:
        return Result(None, failure=f"it did not end within {seconds:.2g} seconds", timed_out=True)
    except OSError as error:
        return Result(None, failure=error.strerror or str(error))
    return Result(process.returncode, stdout, stderr)


def _communicate(process: subprocess.Popen[str], stdin: str, seconds: float) -> tuple[str, str]:
    """Return a program's output. If that is interrupted, or takes too long, the program has ended nevertheless.

    `subprocess.run` would not wait for the end after Ctrl-C: a program that has just been killed may be within a system
    call that adds rules, while they are already being removed.
    """
    try:
        return process.communicate(stdin, seconds)
    except BaseException:
        process.kill()
        process.wait()
        raise
