"""systemd as the first process of namespaces of its own, on a host: it runs units as they are, with all their limits.

It sees this machine's files, but has its own /etc, /opt, /run, /usr/local/sbin and /var; what it writes to /usr is its
own as well.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.certbot import Authority, InstalledCertbot
from lab.hosts import Host
from lab.processes import children, end, run, running, wait_until

_SOURCE = Path(__file__).parents[1]
_CERTBOT = "/opt/certbot/bin/certbot"
_PROGRAM = "/opt/certbot/bin/certbot-standalone-nfq"
_CHECKOUT = "/opt/checkout"
_PATH = "PATH=/opt/certbot/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNIT_FOLDERS = "/etc/systemd/system:/run/systemd/system"
_TARGETS = ("basic", "multi-user", "network", "network-online", "shutdown", "sysinit", "timers", "trial")
"""Those that units refer to; the machine's own would start its services."""
_OF_ETC = (
    "alternatives",
    "group",
    "java-*",
    "ld.so.cache",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "protocols",
    "services",
    "ssl/openssl.cnf",
)
_FOLDERS = (
    *("etc/systemd/system", "groups", "run", "usr/local/sbin", "var/lib", "var/log", "var/tmp", "work"),
    *("opt/packages", "opt/python", "opt/source/certbot_standalone_nfq"),
)

_JOIN_GROUP = """\
mount -t cgroup2 none {disk}/groups
mkdir {disk}/groups/{name}
echo $$ >{disk}/groups/{name}/cgroup.procs
umount {disk}/groups
exec unshare --mount --cgroup --pid --uts --ipc --fork --kill-child "$@"
"""
_LEAVE_GROUP = "mount -t cgroup2 none {disk}/groups && find {disk}/groups/{name} -depth -type d -exec rmdir {{}} +"
_BOOT = """\
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mount --bind {python} {disk}/opt/python
mount --bind {packages} {disk}/opt/packages
mount --bind {source}/certbot_standalone_nfq {disk}/opt/source/certbot_standalone_nfq
mount -t overlay -o lowerdir=/usr,upperdir={disk}/usr,workdir={disk}/work unpacked /usr
for folder in etc opt run usr/local/sbin var; do mount --rbind {disk}/$folder /$folder; done
exec env -i {path} container=lab SYSTEMD_UNIT_PATH={units} \
    /lib/systemd/systemd --system --unit=trial.target --log-target=console --show-status=false
"""
_START = """\
#!/bin/sh
export PYTHONHOME=/opt/python PYTHONPATH=/opt/source:/opt/packages LD_LIBRARY_PATH=/opt/python/lib
export REQUESTS_CA_BUNDLE=/opt/certbot/authority.pem PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python3 -c 'import sys; from {module} import main; sys.exit(main())' "$@"
"""


@dataclass
class Systemd:
    """A running systemd, with its disk in a folder."""

    host: Host
    disk: Path
    process_id: int

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command where its services run, without any of their limits."""
        entered = ("nsenter", "--target", str(self.process_id), "--mount", "--pid", "--net", "--uts", "--cgroup")
        return [*entered, "env", "-i", _PATH, f"SYSTEMD_UNIT_PATH={_UNIT_FOLDERS}", *command]

    def control(self, *arguments: str) -> str:
        """Run systemctl; return its output. Fails as it does."""
        return run(self.command("systemctl", *arguments))

    @contextlib.contextmanager
    def running(self, *units: str) -> Iterator[None]:
        """Start units; stop them at the end, whatever happens."""
        try:
            self.control("start", *units)
            yield
        finally:
            self.control("stop", *units)

    def adopt(self, package: str, owner: str = "root") -> None:
        """Let it have the service of a Debian package of this machine, as it is after installation; not started."""
        there = [place for place in ("etc", "etc/default", "var/lib") if (Path("/") / place / package).exists()]
        run(["cp", "--archive", "--parents", *(f"{place}/{package}" for place in there), str(self.disk)], cwd="/")
        for place in ("log", "cache"):
            (self.disk / "var" / place / package).mkdir(parents=True)
            shutil.chown(self.disk / "var" / place / package, owner, owner)
        self.add(f"{package}.service", Path(f"/lib/systemd/system/{package}.service").read_text())

    def add(self, name: str, unit: str) -> None:
        """Let it have a unit."""
        (self.disk / "etc/systemd/system" / name).write_text(unit)
        self.control("daemon-reload")

    def follow(self, commands: str) -> str:
        """Run commands for a shell, in a checkout; return their output. Fails as they do."""
        return run(self.command("sh", "-euc", f"cd {_CHECKOUT}\n{commands}"))


@dataclass
class ServiceCertbot(InstalledCertbot):
    """Certbot where systemd's services run; `folder` is their disk."""

    systemd: Systemd

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments, without any limits."""
        return self.systemd.command(_CERTBOT, *arguments, "--non-interactive")

    def make_due(self, name: str) -> None:
        """Let a certificate be due for renewal."""
        lineage = self.configuration / "renewal" / f"{name}.conf"
        lineage.write_text(f"renew_before_expiry = 9999 days\n{lineage.read_text()}")


@contextlib.contextmanager
def systemd(host: Host, folder: Path, unpacked: Path | None = None) -> Iterator[Systemd]:
    """Run systemd on a host, with no units but empty targets; ready when the context begins.

    The content of Debian packages that were unpacked into a folder is as if it were this machine's, but for what the
    scripts of these packages would have done.
    """
    _lay_out(folder)
    if unpacked:
        _lay_over(folder, unpacked)
    places = {
        "disk": folder,
        "name": host.name,
        "packages": sysconfig.get_path("purelib"),
        "python": sys.base_prefix,
        "path": _PATH,
        "source": _SOURCE,
        "units": _UNIT_FOLDERS,
    }
    command = host.command("sh", "-euc", _JOIN_GROUP.format(**places), "sh", "sh", "-c", _BOOT.format(**places))
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    leave = ["unshare", "--mount", "sh", "-c", _LEAVE_GROUP.format(**places)]
    try:
        with running(command, **silent) as process:
            wait_until((folder / "run/systemd/private").exists, "systemd can be reached")
            (systemd_,) = children(process.pid)
            try:
                yield Systemd(host, folder, systemd_)
            finally:
                end(process, signal.SIGKILL)
    finally:
        wait_until(
            lambda: not subprocess.run(leave, check=False, capture_output=True).returncode,
            "its control groups are gone",
        )


def _lay_out(folder: Path) -> None:
    for made in _FOLDERS:
        (folder / made).mkdir(parents=True)
    there = [str(path.relative_to("/etc")) for pattern in _OF_ETC for path in Path("/etc").glob(pattern)]
    run(["cp", "--archive", "--parents", *there, str(folder / "etc")], cwd="/etc")
    for target in _TARGETS:
        (folder / f"etc/systemd/system/{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")


def _lay_over(folder: Path, unpacked: Path) -> None:
    for place in ("etc", "usr", "var", "lib"):  # older packages have their units in /lib, which leads to /usr/lib
        if (unpacked / place).exists():
            run(["cp", "--archive", f"{unpacked}/{place}/.", str(folder / place.replace("lib", "usr/lib"))])


def install_certbot(made: Systemd, authority: Authority) -> ServiceCertbot:
    """Install Certbot there, without units, and put a checkout beside it."""
    _install(made, _CERTBOT, "certbot.main")
    shutil.copy(authority.certificate, made.disk / "opt/certbot/authority.pem")
    return ServiceCertbot(made.host, authority, made.disk, made)


def install_program(made: Systemd) -> None:
    """Install the program of this project there, without units, and put a checkout beside it."""
    _install(made, _PROGRAM, "certbot_standalone_nfq.cli.main")


def _install(made: Systemd, place: str, module: str) -> None:
    program = made.disk / place.lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text(_START.format(module=module))
    program.chmod(0o755)
    shutil.copytree(_SOURCE / "deploy", made.disk / _CHECKOUT.lstrip("/") / "deploy")
