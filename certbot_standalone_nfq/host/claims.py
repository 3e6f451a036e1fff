"""What processes of one network namespace claim for themselves: names of sockets in the abstract namespace, unix(7).

The kernel has one such namespace for each network namespace, whatever containers the processes are in, and frees a name
when its process ends, however that ends. Anyone may take a name, so what another user's process holds does not count.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq.host import processes
from certbot_standalone_nfq.host.command import Deadline

_PREFIX = "certbot-standalone-nfq/"
_SOCKETS = Path("/proc/thread-self/net/unix")
_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a claim, if it is seen: one in another PID namespace is not."""

    pid: int = 0
    name: str = ""
    trusted: bool = True
    """Whether it is root's or this user's, or not seen."""

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})" if self.pid else "a process in another container"


class Claimed(Exception):
    """Another process holds the claim."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


class Claim:
    """A claim, until `close`."""

    def __init__(self, *what: str) -> None:
        """Claim something, named by words. Raises Claimed, or OSError if there can be no claims."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(b"\0" + _name(what).encode())
            self._socket.shutdown(socket.SHUT_RD)  # nothing is ever sent to it
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRINUSE:
                raise Claimed(_seen_holder(what)) from error
            raise

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give it up. Calling it again is no error."""
        self._socket.close()


def is_claimed(*what: str) -> bool:
    """Whether any process, this one included, has claimed something; not if that cannot be found out."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        return asking.connect_ex(b"\0" + _name(what).encode()) != errno.ECONNREFUSED
    return False


def holder(*what: str) -> Holder | None:
    """Return who has claimed something, or None if nobody has."""
    return _seen_holder(what) if is_claimed(*what) else None


def _name(what: tuple[str, ...]) -> str:
    """Return a socket's name, which has a bound, and tells nobody what it is about."""
    return _PREFIX + hashlib.sha256("\0".join(what).encode()).hexdigest()


def _seen_holder(what: tuple[str, ...]) -> Holder:
    with contextlib.suppress(OSError):
        inode = next(
            int(line.split()[6])
            for line in _SOCKETS.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.endswith(f"@{_name(what)}")
        )
        pid = processes.socket_owner(inode, Deadline(_SECONDS))
        if pid:
            owner = Path(f"/proc/{pid}").stat().st_uid
            return Holder(pid, processes.name(pid), owner in (0, os.geteuid()))
    return Holder()
