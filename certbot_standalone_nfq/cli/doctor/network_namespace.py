"""Runs a function in a process and a network namespace of its own, which end together.

The namespace has a loopback interface and nothing else. All that the function does to the network stays in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import multiprocessing
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from certbot_standalone_nfq import errors

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_PR_CAPBSET_DROP = 24  # include/uapi/linux/prctl.h
_CAP_SYS_MODULE = 16  # include/uapi/linux/capability.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914  # include/uapi/linux/sockios.h
_IFF_UP = 1
_REQUEST = "16sh14x"
_ENDING_SECONDS = 1


class Failed(Exception):
    """The function raised an exception, or its process ended before it returned."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(cause)
        self.cause, self.cure = cause, cure


class PrivateRun:
    """A function's run, from its start until its result is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Start it. Must be called before this process starts threads, as it forks."""
        context = multiprocessing.get_context("fork")
        self._results, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(sender, function, arguments), daemon=True)
        self._process.start()
        sender.close()

    def result(self, seconds: float) -> Any:
        """Wait for the function's result and return it; its process has ended then.

        Raises TimeoutError if it takes longer, and Failed.
        """
        try:
            if not self._results.poll(seconds):
                self._end()
                raise TimeoutError
            succeeded, value = self._results.recv()
        except EOFError as error:
            raise Failed("Its process ended early.") from error
        finally:
            self._results.close()
            self._process.join()
        if not succeeded:
            raise Failed(*value)
        return value

    def _end(self) -> None:
        """End the process and all others in its namespace: a firewall program that hangs, and the watchdog."""
        namespace = _namespace(Path(f"/proc/{self._process.pid}"))
        self._process.kill()
        if namespace in (None, _namespace(Path("/proc/self"))):  # it has none of its own yet
            return
        deadline = time.monotonic() + _ENDING_SECONDS
        while time.monotonic() < deadline and (others := _processes(namespace)):
            for pid in others:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


def _processes(namespace: Path | None) -> list[int]:
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if _namespace(process) == namespace]


def _namespace(process: Path) -> Path | None:
    """Return what names a process's network namespace; None if the process has ended, or may not be looked at."""
    try:
        return (process / "ns" / "net").readlink()
    except OSError:
        return None


def _run(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        enter()
        outcome = True, function(*arguments)
    except errors.Error as error:
        outcome = False, (error.cause, error.cure)
    except Exception as error:
        errors.raise_interruption(error)
        outcome = False, (f"{type(error).__name__}: {error}.",)
    sender.send(outcome)


def enter() -> None:
    """Move this thread to a new network namespace whose loopback interface is up. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_REQUEST, b"lo", 0))
        flags = struct.unpack(_REQUEST, request)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_REQUEST, b"lo", flags | _IFF_UP))


def forbid_loading_modules() -> None:
    """Keep programs that this process starts from loading kernel modules themselves.

    This has no effect without CAP_SETPCAP. A process without CAP_SETPCAP normally lacks CAP_SYS_MODULE too.
    """
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_MODULE, 0, 0, 0)
