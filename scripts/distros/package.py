"""The Debian package, built and examined by the tools of the release that it is for."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.distros.releases import Release
from scripts.distros.rootfs import Root

_TOOLS = ("autopkgtest", "build-essential", "lintian")
_BUILDS = Path("root/builds")
_NAME = "python-certbot-standalone-nfq"
_BUILD = """\
set -eu
tar --extract --strip-components=1 --file="../$1"
tar --create --gzip --exclude=source/debian --directory=.. --file="../$2" source
apt-get build-dep --yes --no-install-recommends ./
dpkg-buildpackage --unsigned-source --unsigned-changes
"""
_EXAMINE = """\
set -eu
lintian --allow-root --info --fail-on=error,warning ./*.changes
autopkgtest --no-built-binaries ./*.changes -- null
lintian --version
"""


def build(root: Root, release: Release, *, tested: bool) -> Path:
    """Build the package from a source distribution, perhaps with its tests; return where it is."""
    if not root.has_program("lintian"):
        root.install(*_TOOLS)
    folder = root.folder / _BUILDS / release.version / "source"
    folder.mkdir(parents=True)
    shutil.copy(release.source, folder.parent)
    archives = (release.source.name, f"{_NAME}_{release.version}.orig.tar.gz")
    options = f"DEB_BUILD_OPTIONS={'' if tested else 'nocheck'}"
    root.run(options, "sh", "-c", f"cd /{_BUILDS}/{release.version}/source\n{_BUILD}", "sh", *archives)
    (built,) = folder.parent.glob("*.deb")
    return built


def examine(root: Root, release: Release) -> str:
    """Have lintian find neither errors nor warnings, and the package's own tests pass; say by what."""
    output = root.run("sh", "-c", f"cd /{_BUILDS}/{release.version}\n{_EXAMINE}")
    return f"{output.splitlines()[-1]}: nothing, autopkgtest: passed"
