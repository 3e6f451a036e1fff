"""Debian packages of any release, from the mirror that this machine's apt uses; nothing of that is installed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run
from scripts.mirror import mirror

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Archive:
    """A suite, as apt knows it in a folder of its own."""

    state: Path

    def run(self, *command: str) -> str:
        """Run one of apt's programs; return its output."""
        environment = {**os.environ, "APT_CONFIG": str(self.state / "apt.conf")}
        return run(command, env=environment, cwd=self.state, timeout=_DOWNLOAD_SECONDS)

    def missing(self, *packages: str) -> list[str]:
        """Return packages, and those that they need and that are not installed."""
        options = ("--simulate", "--reinstall", "--no-install-recommends")
        return re.findall(r"^Inst (\S+)", self.run("apt-get", "install", *options, *packages), re.MULTILINE)

    def unpack(self, packages: Sequence[str], folder: Path) -> None:
        """Download packages, and unpack them into a folder."""
        self.run("apt-get", "download", "-qq", *packages)
        for package in self.state.glob("*.deb"):
            run(["dpkg-deb", "-x", str(package), str(folder)])
            package.unlink()


def archive(suite: str, state: Path, installed: Path = Path("/dev/null")) -> Archive:
    """Let apt know of a suite and its security updates alone, in a folder that is not there yet.

    By the file `installed`, as dpkg keeps one, it knows what is installed.
    """
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True)
    shutil.copyfile(installed, state / "status")
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
    (state / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    made = Archive(state)
    made.run("apt-get", "update", "-qq")
    return made


def _sources(suite: str) -> list[str]:
    archives = [(mirror(), suite)]
    if suite != "sid":
        archives.append((mirror("Debian-Security"), f"{suite}-security"))
    common = f"Types: deb\nComponents: main\nArchitectures: amd64\nSigned-By: {_KEYRING}\n"
    return [f"{common}URIs: {address}\nSuites: {name}\n" for address, name in archives]
