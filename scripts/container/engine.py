"""Podman in the place of Docker, with its images, containers and settings in a folder, in namespaces of its own."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import UNMEASURED, children, run, running, wait_until
from scripts.distros.rootfs import Root

_SOURCE = Path(__file__).parents[2]
_PROFILE = Path("/usr/share/containers/seccomp.json")
_SECONDS = 1800
"""The longest that building may take, on a slow machine and a slow line."""
_OF_PIP = ("global.cert", "global.index-url", "global.trusted-host")
_STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/running"\n'
_SETTINGS = """\
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
env = [{environment}]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "{folder}/libpod"
"""
"""Without control groups, which this machine may have in a way that Podman does not know."""
_ENTER = """\
set -eu
mount --make-rprivate /
mount -t proc proc /proc
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
for folder in /etc/cni/net.d /var/lib/cni /var/lib/containers; do
    [ ! -d $folder ] || mount -t tmpfs none $folder
done
touch "$1/ready"
exec sleep infinity
"""
_DOCKER = """\
#!/bin/sh
[ "$1" = compose ] || exec podman "$@"
shift
exec {compose} "$@"
"""


@dataclass(frozen=True)
class Engine:
    """A folder and the process whose namespaces all is run in."""

    folder: Path
    process_id: int

    def command(self, line: str, host: Host | None = None) -> list[str]:
        """Return what runs a line of a shell in the source folder, on a host if given; it may call docker."""
        network = [f"--net=/run/netns/{host.name}"] if host else []
        namespaces = ("--target", str(self.process_id), "--mount", "--pid", *network)
        settings = (
            f"PATH={self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"CONTAINERS_CONF={self.folder}/containers.conf",
            f"CONTAINERS_STORAGE_CONF={self.folder}/storage.conf",
            "BUILDAH_ISOLATION=chroot",
        )
        return ["nsenter", *namespaces, *UNMEASURED, *settings, "sh", "-euc", f"cd {_SOURCE}; {line}"]

    def run(self, line: str, host: Host | None = None) -> str:
        """Run such a line; return its output."""
        return run(self.command(line, host), timeout=_SECONDS)

    def set_environment(self, **variables: str) -> None:
        """Let containers have these variables."""
        environment = ", ".join(f'"{name}={value}"' for name, value in variables.items())
        (self.folder / "containers.conf").write_text(_SETTINGS.format(environment=environment, folder=self.folder))

    def take(self, root: Root, name: str) -> None:
        """Make an image of a root file system."""
        self.run(f"tar -C {shlex.quote(str(root.folder))} -c . | docker import - {name}")

    def write_seccomp_profile(self) -> Path:
        """Return the file of Podman's profile with what newer ones have: bpf for those who have CAP_BPF."""
        profile = json.loads(_PROFILE.read_text())
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name != "bpf"]
        profile["syscalls"].append({"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}})
        file = self.folder / "seccomp.json"
        file.write_text(json.dumps(profile))
        return file

    def write_pip_settings(self) -> Path:
        """Return a file of how pip on this machine reaches its index."""
        lines = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
        settings = dict(line.split("=", 1) for line in lines)
        file = self.folder / "pip.conf"
        values = (f"{name.split('.')[1]} = {ast.literal_eval(settings[name])}" for name in _OF_PIP if name in settings)
        file.write_text("\n".join(("[global]", *values, "")))
        return file


def on_disk(text: str, disk: Path) -> str:
    """Let volumes be in a folder."""
    return re.sub(r"(?<=[ ])(/(?:etc|var/lib|var/log)/letsencrypt:)", rf"{disk}\1", text)


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Have an engine for as long as the context lasts; its containers and mounts end with it."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/docker").write_text(_DOCKER.format(compose=Path(sys.executable).with_name("podman-compose")))
    (folder / "bin/docker").chmod(0o755)
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
    apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(folder))
    with running(apart, stdin=subprocess.DEVNULL) as process:
        wait_until((folder / "ready").exists, "its namespaces are there")
        (first,) = children(process.pid)
        made = Engine(folder, first)
        made.set_environment()
        try:
            yield made
        finally:
            process.kill()
