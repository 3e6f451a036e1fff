"""The real certbot program, with the plugin installed beside it."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.hosts import Host

CERTBOT = Path(sys.executable).with_name("certbot")
RENEW = ("renew", "--force-renewal", "--no-random-sleep-on-renew")


class Authority(Protocol):
    """Where certificates come from."""

    certificate: Path
    """What its own HTTPS is to be trusted by."""

    @property
    def directory(self) -> str:
        """The URL that clients begin at."""


@dataclass
class Certbot:
    """Certbot on a host, with its files in a folder."""

    host: Host
    authority: Authority
    folder: Path
    launcher: tuple[str, ...] = field(default=(), init=False)
    """What starts certbot in place of the shell, given its command."""

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments."""
        folders = [f"--{kind}-dir={self.folder / kind}" for kind in ("config", "work", "logs")]
        environment = f"REQUESTS_CA_BUNDLE={self.authority.certificate}"
        command = ("env", environment, *self.launcher, str(CERTBOT), *arguments, *folders, "--non-interactive")
        return self.host.command(*command)

    def by(self, *launcher: str) -> Certbot:
        """Return the same, started by what may limit its powers."""
        started = copy.copy(self)
        started.launcher = launcher
        return started

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run certbot to its end; what it prints, errors included, is the output."""
        return subprocess.run(
            self.command(*arguments),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )

    def certonly(self, *names: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Ask for a certificate as the README says."""
        self._forget_account()
        domains = [argument for name in names for argument in ("-d", name)]
        return self.run("certonly", "-a", "standalone-nfq", *domains, *self.account(), *options)

    def renew(self) -> subprocess.CompletedProcess[str]:
        """Renew all certificates as a timer does, with challenges to be answered."""
        self.take_new_account()
        return self.run(*RENEW)

    def take_new_account(self) -> None:
        """Go on with another account: Pebble reuses 1% of one account's authorizations, whatever it is told."""
        self._forget_account()
        result = self.run("register", *self.account())
        assert result.returncode == 0, result.stdout
        (account,) = self._accounts.glob("*/*/*/")
        for lineage in (self.configuration / "renewal").glob("*.conf"):
            lineage.write_text(re.sub("(?m)^account = .*", f"account = {account.name}", lineage.read_text()))

    def _forget_account(self) -> None:
        """Have the next run register another account."""
        shutil.rmtree(self._accounts, ignore_errors=True)

    @property
    def configuration(self) -> Path:
        """Where its accounts, certificates and renewals are."""
        return self.folder / "config"

    @property
    def _accounts(self) -> Path:
        return self.configuration / "accounts"

    def account(self) -> tuple[str, ...]:
        """Return the options that register with the authority."""
        return ("--server", self.authority.directory, "--agree-tos", "--register-unsafely-without-email")

    def certificate(self, name: str) -> Path:
        """Return where the newest certificate of a lineage is."""
        return self.configuration / "live" / name / "cert.pem"

    @property
    def log(self) -> str:
        """Return certbot's log of all runs."""
        return "\n".join(path.read_text() for path in sorted((self.folder / "logs").glob("letsencrypt.log*")))


@dataclass
class InstalledCertbot(Certbot):
    """Certbot with its files where they are on any machine, whose root file system is the folder."""

    @property
    def configuration(self) -> Path:
        """Where its accounts, certificates and renewals are."""
        return self.folder / "etc/letsencrypt"

    @property
    def log(self) -> str:
        """Return certbot's log of its last run."""
        return (self.folder / "var/log/letsencrypt/letsencrypt.log").read_text()
