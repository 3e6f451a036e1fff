"""Debian's own kernels, of any release, from the mirror that this machine's apt uses; nothing of that is installed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run
from scripts.mirror import mirror

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_METAPACKAGE = "linux-image-amd64"
_PARTS = re.compile(r"linux-(image|binary|modules)-\d")  # newer releases have the modules in a package of their own
_DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its release, as `uname -r` says it, its image, and beside that's folder its modules."""

    release: str
    image: Path


def fetch_kernel(suite: str, folder: Path) -> Kernel:
    """Unpack a suite's newest kernel into a folder that does not exist yet."""
    root, state = folder / "root", folder / "apt"
    environment = _private_apt(suite, state)
    run(["apt-get", "update", "-qq"], env=environment, timeout=_DOWNLOAD_SECONDS)
    parts = [name for name in _dependencies(environment) if _PARTS.match(name)]
    run(["apt-get", "download", "-qq", *parts], env=environment, cwd=state, timeout=_DOWNLOAD_SECONDS)
    for package in state.glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(root)])
        package.unlink()
    return _arranged(root)


def _private_apt(suite: str, state: Path) -> dict[str, str]:
    """Return the environment in which apt knows of a suite and its security updates alone, and of no package here."""
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "suite.sources").write_text("\n".join(_sources(suite)))
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "suite.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Sandbox::User": "root",  # who alone may write here
    }
    configuration = state / "apt.conf"
    configuration.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return {**os.environ, "APT_CONFIG": str(configuration)}


def _sources(suite: str) -> list[str]:
    archives = [(mirror(), suite)]
    if suite != "sid":
        archives.append((mirror("Debian-Security"), f"{suite}-security"))
    common = f"Types: deb\nComponents: main\nArchitectures: amd64\nSigned-By: {_KEYRING}\n"
    return [f"{common}URIs: {address}\nSuites: {name}\n" for address, name in archives]


def _dependencies(environment: dict[str, str]) -> list[str]:
    """Return all that the kernel's metapackage needs, itself included."""
    without = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    listed = run(["apt-cache", "depends", "--recurse", *without, _METAPACKAGE], env=environment)
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
