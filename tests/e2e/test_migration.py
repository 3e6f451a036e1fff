"""From other authenticators to this one and back, by the commands that docs/migrate.md gives, on lineages they made."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import hosts
from lab.certbot import Certbot
from lab.hosts import Host
from lab.pebble import Pebble, pebble
from lab.services import Service, apache_service, nginx_service

DOCUMENT = Path(__file__).parents[2] / "docs" / "migrate.md"
NAME = "example.com"
HOOKS = "--pre-hook 'systemctl stop nginx' --post-hook 'systemctl start nginx'"
NO_HOOKS = "--pre-hook '' --post-hook ''"
TO_US = "reconfigure --cert-name example.com -a standalone-nfq"
FORCED = "renew --cert-name example.com --force-renewal -a standalone-nfq"
CHECK = "renew --dry-run --cert-name example.com"


@dataclass
class Internet:
    """A server without anything on it, and an authority that finds the name there."""

    server: Host
    authority: Pebble
    folder: Path


@dataclass
class Site:
    """A web server, and a Certbot with a certificate for it."""

    service: Service
    certbot: Certbot

    def follow(self, arguments: str, *more: str) -> None:
        """Run a command of the document, with what is here in place of what is there."""
        assert f"certbot {arguments}" in DOCUMENT.read_text().splitlines()
        here = arguments.replace("/var/www/html", str(self.service.site)).replace(
            "systemctl", str(self.service.control)
        )
        self.run(*shlex.split(here), *more)

    def run(self, *arguments: str) -> None:
        """Run certbot, successfully."""
        result = self.certbot.run(*arguments)
        assert result.returncode == 0, result.stdout

    def renew(self) -> str:
        """Renew all certificates as a timer does, and return the log of that alone."""
        result = self.certbot.renew()
        assert result.returncode == 0, result.stdout
        return (self.certbot.folder / "logs" / "letsencrypt.log").read_text()

    def saved(self) -> str:
        """Return what is saved for renewal."""
        return (self.certbot.folder / "config" / "renewal" / f"{NAME}.conf").read_text()

    def state(self) -> tuple[object, ...]:
        """Return what must not change."""
        return self.service.process, self.service.files(), self.certbot.host.rules()


@pytest.fixture(scope="module")
def everybody() -> Iterator[Internet]:
    with tempfile.TemporaryDirectory() as scratch, hosts.pair() as (client, server):
        folder = Path(scratch)
        folder.chmod(0o755)  # Apache looks into it, and not as root
        with pebble(client, folder / "pebble") as authority:
            authority.resolve(NAME, ipv4=server.ipv4)
            yield Internet(server, authority, folder)


Server = Callable[[Host, Path], contextlib.AbstractContextManager[Service]]


@dataclass(frozen=True)
class Origin:
    """Where one comes from: the web server, and the commands of the document."""

    server: Server
    issue: str
    move: str = TO_US
    back: str = ""
    installer: str = ""
    """What installs the certificate, before and after, and reloads the web server for it."""


@contextlib.contextmanager
def site(everybody: Internet, origin: Origin) -> Iterator[Site]:
    """Run a web server, and get a certificate in the old way."""
    with tempfile.TemporaryDirectory(dir=everybody.folder) as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "certbot").mkdir()
        with origin.server(everybody.server, folder / "service") as service:
            made = Site(service, Certbot(everybody.server, everybody.authority, folder / "certbot"))
            made.follow(origin.issue, *service.options, *made.certbot.account())
            yield made


FROM_STANDALONE = Origin(
    nginx_service,
    f"certonly --standalone -d example.com {HOOKS}",
    f"{TO_US} {NO_HOOKS}",
    f"reconfigure --cert-name example.com -a standalone {HOOKS}",
)
FROM_OTHERS = {
    "webroot": Origin(
        nginx_service,
        "certonly --webroot -w /var/www/html -d example.com",
        back="reconfigure --cert-name example.com -a webroot -w /var/www/html",
    ),
    "nginx": Origin(nginx_service, "--nginx -d example.com", installer="nginx"),
    "apache": Origin(apache_service, "--apache -d example.com", installer="apache"),
}


def move_renew_and_return(made: Site, name: str, origin: Origin) -> None:
    """See that renewals are ours in between, and leave the web server alone but for a reload by an installer."""
    assert f"authenticator = {name}\n" in made.saved()
    before, reloads, seen = made.state(), made.service.reloads(), made.service.access_log
    made.follow(origin.move)
    assert "authenticator = standalone-nfq\n" in made.saved()
    assert made.service.reloads() == reloads
    log = made.renew()
    assert f"Plugins selected: Authenticator standalone-nfq, Installer {origin.installer or None}" in log
    assert made.service.access_log == seen
    assert made.service.reloads() == reloads + bool(origin.installer)
    assert made.state() == before
    if origin.back:
        made.follow(origin.back)
        assert f"authenticator = {name}\n" in made.saved()


@pytest.mark.parametrize("name", FROM_OTHERS)
def test_after_one_command_renewals_are_ours_and_leave_the_web_server_alone(everybody: Internet, name: str) -> None:
    origin = FROM_OTHERS[name]
    with site(everybody, origin) as made:
        move_renew_and_return(made, name, origin)


def test_hooks_that_stop_the_web_server_go_by_the_same_command_and_stop_it_until_then(everybody: Internet) -> None:
    """The forced renewal is for Certbot before 2.3, which cannot reconfigure."""
    with site(everybody, FROM_STANDALONE) as made:
        process = made.service.process
        made.run(*shlex.split(TO_US))
        assert made.service.process != process
        made.follow(FROM_STANDALONE.back)
        move_renew_and_return(made, "standalone", FROM_STANDALONE)
        before = made.state()
        made.follow(f"{FORCED} {NO_HOOKS}", "--no-random-sleep-on-renew")
        assert "authenticator = standalone-nfq\n" in made.saved()
        made.follow(CHECK, "--no-random-sleep-on-renew", "--server", everybody.authority.directory)
        assert made.state() == before
