"""A container without an engine: what `docker run` is asked for in docs/container.md, by the kernel's own means."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

from scripts.container.image import Image

_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_MASKED_FILES = ("interrupts", "kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats")
_MASKED_FOLDERS = ("proc/acpi", "proc/asound", "proc/scsi", "sys/devices/virtual/powercap", "sys/firmware")
"""As Docker's defaults have it (moby, oci/defaults.go)."""
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ENTER = f"""\
set -eu
root=$1 volumes=$2 capabilities=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
for place in {" ".join(_READ_ONLY)}; do
    [ -e "proc/$place" ] || continue
    mount --bind "proc/$place" "proc/$place"
    mount -o remount,bind,ro "proc/$place"
done
for place in {" ".join(_MASKED_FILES)}; do [ ! -e "proc/$place" ] || mount --bind /dev/null "proc/$place"; done
mount -t sysfs -o ro sysfs sys
for place in {" ".join(_MASKED_FOLDERS)}; do [ ! -d "$place" ] || mount -t tmpfs -o ro tmpfs "$place"; done
mount -t tmpfs -o mode=755 tmpfs dev
for device in {" ".join(_DEVICES)}; do : >"dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
mkdir dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for volume in $volumes; do
    mkdir -p "${{volume%%:*}}" "$root${{volume#*:}}"
    mount --bind "${{volume%%:*}}" "$root${{volume#*:}}"
done
mkdir -p old
pivot_root . old
umount -l /old
rmdir /old
exec setpriv --bounding-set="-all$capabilities" --inh-caps=-all --ambient-caps=-all /usr/bin/env -i "$@"
"""


@dataclass(frozen=True)
class DockerRun:
    """A `docker run` as far as it is understood here."""

    capabilities: tuple[str, ...]
    volumes: tuple[tuple[Path, Path], ...]
    arguments: tuple[str, ...]
    """What the container's own command is given."""

    def command(self, image: Image, disk: Path, environment: tuple[str, ...], *more: str) -> list[str]:
        """Return the command that does the same on this machine, with a folder for the disk that volumes are on."""
        capabilities = "".join(f",+{name.lower()}" for name in self.capabilities)
        volumes = " ".join(f"{disk}{outside}:{inside}" for outside, inside in self.volumes)
        apart = ("unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
        enter = ("sh", "-c", _ENTER, "sh", str(image.root.folder), volumes, capabilities)
        inside = (f"PATH={_PATH}", "HOME=/root", *environment, *image.entry_point, *(more or self.arguments))
        return [*apart, *enter, *inside]


def read(document: Path) -> DockerRun:
    """Read the first `docker run` of a document; an option that is not known here is an error."""
    text = document.read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("docker run "))
    parser = argparse.ArgumentParser(prog="docker run", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--rm", action="store_true")
    parser.add_argument("--network", choices=["host"], required=True)
    parser.add_argument("--cap-drop", choices=["ALL"], required=True)
    parser.add_argument("--cap-add", action="append", default=[])
    parser.add_argument("-v", action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args(shlex.split(line)[2:])
    volumes = tuple((Path(outside), Path(inside)) for outside, inside in (each.split(":") for each in asked.v))
    return DockerRun(tuple(asked.cap_add), volumes, tuple(asked.arguments))
