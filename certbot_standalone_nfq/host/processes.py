"""Other programs on this machine, if /proc shows them to this user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from certbot_standalone_nfq.host.command import Deadline

_PROC = Path("/proc")
_ACME_CLIENTS = ("certbot", "acme.sh", "lego", "dehydrated", "getssl", "uacme")
_WORDS_OF_A_COMMAND = 3
"""Where a client's name may stand: after an interpreter and one option of it."""


def socket_owners(inodes: set[int], deadline: Deadline) -> dict[int, str]:
    """Return the names of the programs that have sockets open, by inode: those that are found in time."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, str] = {}
    for process in _processes():
        if len(owners) == len(inodes) or not deadline.remaining():
            break
        for target in _open_files(process):
            inode = wanted.get(target)
            if inode is not None:
                owners.setdefault(inode, name(int(process.name)))
    return owners


def socket_owner(inode: int, deadline: Deadline) -> int | None:
    """Return the id of a process that has a socket open, if one is found in time."""
    wanted = f"socket:[{inode}]"
    for process in _processes():
        if not deadline.remaining():
            break
        if wanted in _open_files(process):
            return int(process.name)
    return None


def acme_clients() -> list[str]:
    """Return the ACME clients that are running in this network namespace: name and process id of each."""
    here = _namespace(_PROC / "self")
    found = []
    for process in _processes():
        words = _command(process)[:_WORDS_OF_A_COMMAND]
        client = next((word for word in map(os.path.basename, words) if word in _ACME_CLIENTS), None)
        if client and _namespace(process) in (here, None):  # None: this user cannot see it
            found.append(f"{client} (process {process.name})")
    return found


def name(pid: int) -> str:
    """Return a process's name, or an empty string if there is no such process."""
    with contextlib.suppress(OSError):
        text = (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
        return "".join(letter if letter.isprintable() else "?" for letter in text)  # a process chooses its own name
    return ""


def _processes() -> Iterator[Path]:
    return (entry for entry in _PROC.iterdir() if entry.name.isdigit())


def _namespace(process: Path) -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink(process / "ns" / "net")  # noqa: PTH115
    return None


def _command(process: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    return []


def _open_files(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(process / "fd") as entries:  # it is another user's, or has ended
        for entry in entries:
            with contextlib.suppress(OSError):
                yield os.readlink(entry.path)  # noqa: PTH115 - a Path for each of many thousand files is slow
