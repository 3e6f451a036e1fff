"""The ways to install the plugin beside Debian's Certbot: its Debian package, and pip without a compiler."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from scripts.distros import package
from scripts.distros.releases import Release
from scripts.distros.rootfs import Root

PLUGIN = "certbot-standalone-nfq"
_PACKAGE = f"python3-{PLUGIN}"
_PIP = ("/usr/bin/python3", "-m", "pip")
_FOR_PIP = ("certbot", "iptables", "python3-dnspython", "python3-pip", "python3-scapy")


class Installation(Protocol):
    """A way to install it."""

    name: str

    def build(self, root: Root, /, *releases: Release) -> str:
        """Make what is installed, in a root file system where anything may be left; say what was found out."""

    def install(self, root: Root, release: Release) -> str:
        """Install it, or upgrade what is installed; return what is printed."""

    def remove(self, root: Root) -> None:
        """Remove it."""

    def replace(self, root: Root, former: Release, current: Release, /) -> str:
        """Install it where pip has installed the version before; say what came of it."""


class ByPackage:
    """By apt, with all that it needs, Certbot included."""

    name = "Debian package"

    def __init__(self) -> None:
        self._packages: dict[str, Path] = {}

    def build(self, root: Root, /, *releases: Release) -> str:
        """Build the packages of all versions; the last is examined."""
        self._packages = {
            release.version: package.build(root, release, tested=release is releases[-1]) for release in releases
        }
        return package.examine(root, releases[-1])

    def install(self, root: Root, release: Release) -> str:
        """Do what the documents say, in one command."""
        return root.apt("install", "--no-install-recommends", f"/{_copy(self._packages[release.version], root)}")

    def remove(self, root: Root) -> None:
        """Remove a package that the plugin cannot do without, so that Certbot would fail if it stayed."""
        root.apt("remove", "python3-scapy")

    def replace(self, root: Root, former: Release, current: Release) -> str:
        """Have the package say which version Certbot goes on with, and what to do."""
        root.apt("remove", _PACKAGE)
        pip = ByPip()
        pip.install(root, former)
        said = self.install(root, current)
        if "which pip installed, instead of this package" not in said:
            raise RuntimeError(f"The package does not say that there is another copy:\n{said}")
        pip.uninstall(root)
        return "said so"


class ByPip:
    """By Debian's pip, which changes no Debian package."""

    name = "pip"

    def build(self, _root: Root, /, *_releases: Release) -> str:
        """Take the wheel."""
        return "wheel"

    def install(self, root: Root, release: Release) -> str:
        """Do what the documents say, from a wheel instead of a checkout."""
        root.apt("install", "--no-install-recommends", *_FOR_PIP)
        wheel = _copy(release.wheel, root)
        return root.run(*_PIP, "install", "--break-system-packages", "--no-deps", f"/{wheel}")

    def remove(self, root: Root) -> None:
        """Remove the plugin before the package that it needs."""
        self.uninstall(root)
        root.apt("remove", "python3-scapy")

    @staticmethod
    def uninstall(root: Root) -> None:
        """Remove the plugin alone."""
        root.run(*_PIP, "uninstall", "--break-system-packages", "--yes", PLUGIN)

    def replace(self, _root: Root, _former: Release, _current: Release, /) -> str:
        """Do nothing, as that is an upgrade."""
        return "-"


def _copy(file: Path, root: Root) -> Path:
    place = Path("root") / file.name
    shutil.copyfile(file, root.folder / place)
    return place
