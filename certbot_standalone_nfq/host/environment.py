"""Where this process runs, if that changes what the user has to do about an error."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from certbot_standalone_nfq.errors import Place

_CONTAINER_FILES = (
    "run/systemd/container",  # systemd's container interface: the manager's name for it
    "run/.containerenv",  # podman
    ".dockerenv",  # docker
)


def system() -> str:
    """Return Python's name for the operating system, such as linux or darwin."""
    return sys.platform


def place(root: Path = Path("/")) -> Place:
    """Return where this process runs. In a container on WSL, the kernel is WSL's."""
    release = _read(root / "proc/sys/kernel/osrelease")
    if "microsoft" in release or "WSL2" in release:
        return Place.WSL2
    if "Microsoft" in release:
        return Place.WSL1
    return Place.CONTAINER if in_container(root) else Place.MACHINE


def in_container(root: Path = Path("/")) -> bool:
    """Whether a container manager has left one of its documented marks."""
    if any((root / file).exists() for file in _CONTAINER_FILES):
        return True
    variables = _read(root / "proc/1/environ").split("\0")  # readable by root only
    return any(variable.startswith("container=") for variable in variables)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
