"""What a deploy hook that hands a certificate out finds on a machine: `ssh` to the others, and `systemctl`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from lab.fleet import NAMES, Member
from lab.processes import running, wait_until
from lab.tls import VISITOR, certificate_at, write_certificate

PLACE = "/etc/ssl/fleet"
"""Where the hook puts the certificate on the other machines."""
_WEB_SERVER = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    server {{
        listen 443 ssl;
        ssl_certificate {folder}/certificates/fullchain.pem;
        ssl_certificate_key {folder}/certificates/privkey.pem;
    }}
}}
"""
_SYSTEMCTL = """\
#!/bin/sh
[ "$*" = "reload nginx" ] && kill -HUP "$(cat {folder}/nginx.pid)"
"""
_SSH = """\
#!/bin/sh
case $1 in
{machines}
*) exit 255 ;;
esac
exec ip netns exec "$host" sh -c 'mount -t tmpfs none /etc/ssl && mkdir {place} && mount --bind "$1" {place} &&
    PATH="$2:$PATH" exec sh -c "$3"' sh "$files" "$programs" "$2"
"""


@dataclass
class Machine:
    """A member of a fleet with a web server for HTTPS, and its part of the disk."""

    member: Member
    folder: Path

    @property
    def certificates(self) -> Path:
        """What this machine has at PLACE."""
        return self.folder / "certificates"

    @property
    def programs(self) -> Path:
        """The folder of this machine's `systemctl`, and of what else it has of its own."""
        return self.folder / "programs"

    def serves(self, serial_number: int) -> bool:
        """Return whether visitors see a certificate."""
        shown = certificate_at(self.member.host, self.member.host.ipv4, NAMES[0], VISITOR)
        return x509.load_der_x509_certificate(shown).serial_number == serial_number


@contextlib.contextmanager
def machines(members: Sequence[Member], folder: Path) -> Iterator[list[Machine]]:
    """Have a web server for HTTPS on each member, which begins with a certificate of its own."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_machine(member, folder / str(number))) for number, member in enumerate(members)]


@contextlib.contextmanager
def _machine(member: Member, folder: Path) -> Iterator[Machine]:
    made = Machine(member, folder)
    made.certificates.mkdir(parents=True)
    made.programs.mkdir()
    own = write_certificate(made.certificates, "the web server", x509.DNSName(NAMES[0]))
    for path, name in zip(own, ("fullchain.pem", "privkey.pem")):
        path.rename(made.certificates / name)
    _install(made, "systemctl", _SYSTEMCTL.format(folder=folder))
    configuration = folder / "nginx.conf"
    configuration.write_text(_WEB_SERVER.format(folder=folder))
    with running(member.host.command("nginx", "-c", str(configuration), "-e", str(folder / "error.log"))):
        wait_until(lambda: member.host.listens(443), "the web server listens")
        yield made


def install_ssh(machine: Machine, others: dict[str, Machine]) -> None:
    """Let a machine reach others, as root, by their names."""
    cases = "\n".join(_case(name, other) for name, other in others.items())
    _install(machine, "ssh", _SSH.format(machines=cases, place=PLACE))


def _case(name: str, other: Machine) -> str:
    places = f"host={other.member.host.name} files={other.certificates} programs={other.programs}"
    return f"root@{name}) {places} ;;"


def _install(machine: Machine, name: str, text: str) -> None:
    program = machine.programs / name
    program.write_text(text)
    program.chmod(0o755)


def path(machine: Machine) -> tuple[str, ...]:
    """Return what starts a program that finds this machine's own programs first."""
    return ("env", f"PATH={machine.programs}:{os.environ['PATH']}:/usr/sbin:/sbin")
