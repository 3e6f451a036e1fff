"""Debian's own kernels, of any release, from the mirror that this machine's apt uses; nothing of that is installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run
from scripts import packages

_METAPACKAGE = "linux-image-amd64"
_PARTS = re.compile(r"linux-(image|binary|modules)-\d")  # newer releases have the modules in a package of their own


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its release, as `uname -r` says it, its image, and beside that's folder its modules."""

    release: str
    image: Path


def fetch_kernel(suite: str, folder: Path) -> Kernel:
    """Unpack a suite's newest kernel into a folder that does not exist yet."""
    root = folder / "root"
    archive = packages.archive(suite, folder / "apt")
    archive.unpack([name for name in _dependencies(archive) if _PARTS.match(name)], root)
    return _arranged(root)


def _dependencies(archive: packages.Archive) -> list[str]:
    """Return all that the kernel's metapackage needs, itself included."""
    without = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    listed = archive.run("apt-cache", "depends", "--recurse", *without, _METAPACKAGE)
    return [line for line in listed.splitlines() if not line.startswith((" ", "<"))]


def _arranged(root: Path) -> Kernel:
    """Let all releases' trees look alike, with what the installation of the packages would have added."""
    (modules,) = [*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*")]
    release = modules.name
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    image = root / "boot" / f"vmlinuz-{release}"
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        (modules / "vmlinuz").rename(image)
    run(["depmod", "--basedir", str(root), release])
    return Kernel(release, image)
