"""Running programs, ending each by its own id, and waiting for conditions instead of for time."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.01
_ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
"""As it was at the start: a test may give the code under test another PATH."""
_END_SECONDS = 10
UNMEASURED = ("env", "--unset=COVERAGE_PROCESS_CONFIG")
"""What starts a program whose coverage is not to be measured.

That is one that cannot write here, and one that an exception interrupts at any moment: an exception while coverage's
lock is held leaves it locked.
"""


def run(command: Sequence[str], **options: Any) -> str:
    """Run a command to its end and return its output; fail with that and its errors if it fails."""
    result: subprocess.CompletedProcess[str] = subprocess.run(
        command, check=False, capture_output=True, text=True, **{"timeout": 120, "env": _ENVIRONMENT, **options}
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def load_module(name: str) -> None:
    """Load a kernel module that nothing loads by itself, if the kernel has it as a module."""
    subprocess.run(["modprobe", "--quiet", name], check=False, env=_ENVIRONMENT)


@contextlib.contextmanager
def as_many_descriptors_as_allowed() -> Iterator[None]:
    """Raise this process's limit of open files, which usually is 1,024, to the highest it may have."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Return the condition's value once it is true; fail if it does not become so in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds} seconds: {what}")
        time.sleep(_POLL_SECONDS)


def has_ended(process_id: int) -> bool:
    """Whether a process has ended, even if its parent never notices that."""
    return _state(process_id) in ("Z", "")


def is_asleep(process_id: int) -> bool:
    """Whether a process is sleeping."""
    return _state(process_id) == "S"


def _state(process_id: int) -> str:
    """Return the letter for a process's state (proc_pid_stat(5)), or nothing if there is no such process."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(process_id: int) -> set[int]:
    """Return the ids of a process's children that have not ended."""
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and int(parent) == process_id:
                found.add(int(status.parent.name))
    return found


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program for as long as the context lasts."""
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str], number: int | None = None) -> None:
    """End a process, with SIGTERM or another signal, in the last resort with SIGKILL; it may have ended already."""
    if process.poll() is None:
        process.terminate() if number is None else process.send_signal(number)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
