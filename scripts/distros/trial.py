"""One release of a distribution with one way to install, and all that it takes to try the plugin there."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from lab import hosts
from lab.certbot import InstalledCertbot
from lab.hosts import Host
from lab.internet import internet
from lab.load import load
from lab.nameservers import NameServer, name_server
from lab.nginx import Nginx, nginx
from scripts.distros.installations import Installation
from scripts.distros.releases import Release
from scripts.distros.rootfs import Root, Workshop

NAMES = FOUR, SIX = "four.example.org", "six.example.org"
"""What a certificate is for: a name that is asked over IPv4, and one over IPv6."""


@dataclass(frozen=True)
class Distribution:
    """A release whose Certbot is tried."""

    name: str
    suite: str


class Unexpected(Exception):
    """Something is not as it has to be."""


@dataclass
class PackagedCertbot(InstalledCertbot):
    """The certbot in a root file system."""

    root: Root

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments."""
        trusted = "root/authority.pem"
        shutil.copyfile(self.authority.certificate, self.folder / trusted)
        certbot = (f"REQUESTS_CA_BUNDLE=/{trusted}", "certbot", *arguments, "--non-interactive")
        return self.host.command(*self.root.command(*certbot))

    def do(self, *arguments: str) -> str:
        """Run it, successfully; return what it prints."""
        return self.succeeded(self.run(*arguments))

    def succeeded(self, result: subprocess.CompletedProcess[str]) -> str:
        """Return what it printed. Raises Unexpected if it failed."""
        if result.returncode:
            raise Unexpected(f"status {result.returncode}\n{result.stdout}\n{self.log}")
        return result.stdout

    def serial_number(self, name: str) -> int:
        """Return that of the newest certificate of a lineage."""
        return x509.load_pem_x509_certificate(self.certificate(name).read_bytes()).serial_number


@dataclass
class Trial:
    """A distribution with a way to install, as it is tried."""

    installation: Installation
    former: Release
    current: Release
    root: Root
    build_root: Root
    certbot: PackagedCertbot
    client: Host
    web_server: Nginx
    name_server: NameServer
    begun: float = field(default_factory=time.monotonic)
    """When the first command was given, in seconds of the monotonic clock."""

    def program(self, *command: str) -> str:
        """Return what a program prints that is run where Certbot is."""
        return self.certbot.host.run(*self.root.command(*command)).strip()

    def python(self, program: str) -> str:
        """Return what a program prints that the distribution's own Python runs."""
        return self.program("/usr/bin/python3", "-c", program)

    def version(self, package: str) -> str:
        """Return the version of one of that Python's packages."""
        return self.python(f"from importlib.metadata import version; print(version('{package}'))")

    def state(self) -> tuple[object, ...]:
        """Return what must be the same before and after."""
        servers = self.web_server.identity(), self.web_server.error_log, self.name_server.files()
        return self.certbot.host.rules(), servers, self.name_server.log.read_text()


@contextlib.contextmanager
def trial(
    distribution: Distribution, installation: Installation, made: Workshop, former: Release, current: Release
) -> Iterator[Trial]:
    """Make all that takes, and take it away at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = made.make(distribution.suite, folder / "root")
        build_root = made.make(distribution.suite, folder / "build")
        client, server = stack.enter_context(hosts.pair())
        web_server = stack.enter_context(nginx(server, folder / "nginx"))
        zone = stack.enter_context(name_server(server, folder / "nsd"))
        records = f"{FOUR}. 60 IN A {server.ipv4}\n{SIX}. 60 IN AAAA {server.ipv6}\n"
        authority = stack.enter_context(internet(client, server, folder / "internet", records))
        certbot = PackagedCertbot(server, authority, root.folder, root)
        yield Trial(installation, former, current, root, build_root, certbot, client, web_server, zone)


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
        raise Unexpected(f"the firewall or a server was\n{before}\nand is\n{after}")
