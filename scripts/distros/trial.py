"""One release with one firewall, and all that it takes to try the plugin there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from lab import hosts
from lab.certbot import Certbot
from lab.hosts import Host
from lab.load import load
from lab.nginx import Nginx, nginx
from lab.pebble import pebble
from scripts.distros.rootfs import Root, Workshop

NAMES = FOUR, SIX = "four.example.com", "six.example.com"
"""What a certificate is for: a name that is asked over IPv4, and one over IPv6."""


@dataclass(frozen=True)
class Distribution:
    """A release whose Certbot is tried."""

    name: str
    suite: str


@dataclass(frozen=True)
class Firewall:
    """A package that has a firewall's program; the programs of the others are not installed beside it."""

    package: str
    program: str


class Unexpected(Exception):
    """Something is not as it has to be."""


@dataclass
class PackagedCertbot(Certbot):
    """The certbot in a root file system, which is the folder, with its files where its package has them."""

    root: Root

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments."""
        trusted = "root/authority.pem"
        shutil.copyfile(self.authority.certificate, self.folder / trusted)
        certbot = (f"REQUESTS_CA_BUNDLE=/{trusted}", "certbot", *arguments, "--non-interactive")
        return self.host.command(*self.root.command(*certbot))

    @property
    def configuration(self) -> Path:
        """Where its accounts, certificates and renewals are."""
        return self.folder / "etc/letsencrypt"

    @property
    def log(self) -> str:
        """Return certbot's log of all runs."""
        return (self.folder / "var/log/letsencrypt/letsencrypt.log").read_text()


@dataclass
class Trial:
    """A distribution with a firewall, as it is tried."""

    firewall: Firewall
    root: Root
    wheel: Path
    certbot: PackagedCertbot
    client: Host
    web_server: Nginx

    def python(self, program: str) -> str:
        """Return what a program prints that the distribution's own Python runs."""
        return self.root.run("/usr/bin/python3", "-c", program).strip()

    def version(self, package: str) -> str:
        """Return the version of one of that Python's packages."""
        return self.python(f"from importlib.metadata import version; print(version('{package}'))")

    def serial_number(self) -> int:
        """Return the newest certificate's."""
        return x509.load_pem_x509_certificate(self.certbot.certificate(FOUR).read_bytes()).serial_number

    def state(self) -> tuple[object, ...]:
        """Return what must be the same before and after."""
        return self.certbot.host.rules(), self.web_server.identity(), self.web_server.error_log


@contextlib.contextmanager
def trial(distribution: Distribution, firewall: Firewall, made: Workshop, wheel: Path) -> Iterator[Trial]:
    """Make all that takes, and take it away at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = made.make(distribution.suite, folder / "root")
        client, server = stack.enter_context(hosts.pair())
        web_server = stack.enter_context(nginx(server, folder / "nginx"))
        authority = stack.enter_context(pebble(client, folder / "pebble"))
        authority.resolve(FOUR, ipv4=server.ipv4)
        authority.resolve(SIX, ipv6=server.ipv6)
        certbot = PackagedCertbot(server, authority, root.folder, root)
        yield Trial(firewall, root, wheel, certbot, client, web_server)


@contextlib.contextmanager
def undisturbed(under_way: Trial) -> Iterator[None]:
    """Load the web server meanwhile, and see at the end that nobody and nothing has noticed."""
    before = under_way.state()
    with load(under_way.client, f"http://{under_way.certbot.host.ipv4}/") as counted:
        yield
    if counted.failures or not counted.requests:
        raise Unexpected(f"of {counted.requests} requests for nginx's page, {counted.failures} failed")
    challenges = [line for line in under_way.web_server.access_log.splitlines() if "acme-challenge" in line]
    if challenges:
        raise Unexpected("\n".join(["nginx saw challenge requests:", *challenges]))
    after = under_way.state()
    if after != before:
        raise Unexpected(f"the firewall or nginx was\n{before}\nand is\n{after}")
