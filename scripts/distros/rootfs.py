"""Root file systems of Debian releases, made by debootstrap, and programs that are run inside them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run
from scripts.mirror import mirror

_SECONDS = 1200
"""The longest that installing may take, on a slow machine and a slow line."""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
"""The environment inside: paths in that of this machine do not lead anywhere there."""
_PROXY = re.compile(r"(https?|ftp|no|all)_proxy", re.IGNORECASE)
_DOWNLOADING = re.compile(r"Acquire::(https?::|Check-)")
_LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
_ARCHIVES = "var/cache/apt/archives"
_ENTER = f"""\
set -eu
root=$1 archives=$2
shift 2
for folder in dev proc sys; do mount --rbind "/$folder" "$root/$folder"; done
mount --bind "$archives" "$root/{_ARCHIVES}"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
exec chroot "$root" /usr/bin/env -i "$@"
"""


@dataclass(frozen=True)
class Root:
    """A root file system in a folder, and where its package manager keeps what it downloads."""

    folder: Path
    archives: Path

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command inside.

        What is mounted for it is mounted for it alone, so that nothing is left to unmount.
        """
        proxies = {name: value for name, value in os.environ.items() if _PROXY.fullmatch(name)}
        environment = [f"{name}={value}" for name, value in (_ENVIRONMENT | proxies).items()]
        enter = ("unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.folder), str(self.archives))
        return [*enter, *environment, *command]

    def run(self, *command: str) -> str:
        """Run a command inside, and return its output."""
        return _run_alone(*self.command(*command))

    def apt(self, action: str, *arguments: str) -> str:
        """Have apt-get do something, without a question; return what it prints."""
        return self.run("apt-get", action, "--yes", *arguments)

    def install(self, *packages: str) -> None:
        """Install packages of the release, and nothing that they do not depend on."""
        self.update()
        self.apt("install", "--no-install-recommends", *packages)

    def update(self) -> None:
        """Bring it up to date, as one that was kept may be of another day."""
        self.run("apt-get", "update")
        self.apt("dist-upgrade")

    def has_program(self, pattern: str) -> bool:
        """Return whether there is a program with a name like this."""
        return any(list(self.folder.glob(f"{place}/{pattern}")) for place in ("usr/*bin", "usr/local/*bin"))


@dataclass(frozen=True)
class Workshop:
    """Makes root file systems; keeps a fresh one of each release, and the packages that were downloaded."""

    kept: Path

    def make(self, suite: str, folder: Path) -> Root:
        """Make a root file system in a folder that is not there yet."""
        fresh = self.kept / suite
        if not fresh.exists():
            self._bootstrap(suite, fresh)
        run(["cp", "--archive", "--reflink=auto", str(fresh), str(folder)])
        _introduce(folder)
        root = Root(folder, self._archives)
        root.run("update-ca-certificates")
        return root

    @property
    def _archives(self) -> Path:
        folder = self.kept / "archives"
        folder.mkdir(exist_ok=True)
        return folder

    def _bootstrap(self, suite: str, fresh: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self.kept) as scratch:
            folder = Path(scratch) / suite
            options = ("--variant=minbase", "--include=ca-certificates", f"--cache-dir={self._archives}")
            _run_alone("debootstrap", *options, suite, str(folder), mirror())  # leaves its mounts behind if it fails
            for package in (folder / _ARCHIVES).glob("*.deb"):
                package.unlink()  # it is among those that are kept
            folder.rename(fresh)


@contextlib.contextmanager
def workshop(kept: Path) -> Iterator[Workshop]:
    """Keep things in a folder, which no other run uses meanwhile."""
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Workshop(kept.resolve())


def _run_alone(*command: str) -> str:
    """Run a command and return its output; its mounts, and all processes it started, are gone then in any case."""
    alone = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command)
    pipe = subprocess.PIPE
    with subprocess.Popen(alone, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=_SECONDS)
        except BaseException:
            process.kill()
            process.communicate()  # until the last of these processes has closed its output
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}\n{output}\n{errors}")
    return output


def _introduce(folder: Path) -> None:
    """Tell a root file system how this machine reaches others, to start no services, and not to wait for disks."""
    (folder / "etc/resolv.conf").touch()  # that of this machine, or of a host of the laboratory, is mounted there
    settings = [line for line in run(["apt-config", "dump"]).splitlines() if _DOWNLOADING.match(line)]
    settings.append('DPkg::Options:: "--force-unsafe-io";')
    (folder / "etc/apt/apt.conf.d/90as-outside").write_text("\n".join(settings) + "\n")
    if _LOCAL_AUTHORITIES.is_dir():
        shutil.copytree(_LOCAL_AUTHORITIES, folder / _LOCAL_AUTHORITIES.relative_to("/"), dirs_exist_ok=True)
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
