"""The recipes of the documents, run as they stand: their commands, with real servers, systemd, Certbot and Pebble."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from lab import hosts, unpacked
from lab.documents import blocks, file_of
from lab.hosts import Host
from lab.nginx import nginx
from lab.pebble import Pebble, pebble
from lab.processes import run, wait_until
from lab.resolvers import RESOLVERS
from lab.systemd import ServiceCertbot, Systemd, install_certbot, systemd
from lab.tls import VISITOR, certificate_at
from lab.zones import zone
from scripts import packages
from tests.e2e.test_resolvers import RESOLVER, certbot_by
from tests.e2e.test_servers import names
from tests.host.dns.world import AT_MACHINE, World

NAME, MAIL = "example.com", "mail.example.com"
DAY = 86400
ADDRESS = "203.0.113.80"
"""The one that the page about addresses has."""
SETTINGS = """\
server = {directory}
agree-tos = True
register-unsafely-without-email = True
non-interactive = True
no-random-sleep-on-renew = True
"""
"""What a user has answered before, and what makes a renewal without a terminal wait."""
SITE = f"server {{ listen 80; server_name {NAME}; root /var/www; }}\n"
TLS_SITE = """\
server {{
    listen 443 ssl;
    ssl_certificate /etc/letsencrypt/live/{name}/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/{name}/privkey.pem;
}}
"""
APACHES_SITE = f"<VirtualHost *:80>\nServerName {NAME}\nDocumentRoot /var/www\n</VirtualHost>\n"
SERVICES = ("apache2", "dovecot", "postfix")
SUBMISSIONS, IMAPS = 465, 993
DOCKER = """\
#!/bin/sh
[ "$*" = "exec web nginx -s reload" ] && kill -HUP {process}
"""
"""What is Docker here: it does what it is asked for in the recipe."""


@dataclass
class Machine:
    """A server with systemd and Certbot, and the rest of the internet."""

    client: Host
    server: Host
    authority: Pebble
    systemd: Systemd
    certbot: ServiceCertbot

    def follow(self, page: str, heading: str, *which: int) -> None:
        """Run some blocks of a section of a recipe."""
        found = blocks(f"recipes/{page}", heading)
        for index in which:
            self.systemd.follow(found[index])

    def certificate(self, lineage: str) -> x509.Certificate:
        """Return the newest of a lineage."""
        return x509.load_pem_x509_certificate(self.certbot.certificate(lineage).read_bytes())

    def served(self, port: int = 443) -> x509.Certificate:
        """Return the certificate that a server shows."""
        return x509.load_der_x509_certificate(certificate_at(self.client, self.server.ipv4, NAME, VISITOR, port))

    def shows(self, certificate: x509.Certificate, port: int = 443) -> bool:
        """Whether a server shows this certificate; one that is only starting does not."""
        with contextlib.suppress(OSError):
            return self.served(port) == certificate
        return False

    def renew(self, lineage: str) -> x509.Certificate:
        """Renew what is due by the service that the timer starts."""
        self.certbot.take_new_account()
        self.certbot.make_due(lineage)
        self.systemd.control("start", "certbot.service")
        return self.certificate(lineage)

    def put(self, file: str, content: str) -> Path:
        """Write a file."""
        place = self.systemd.disk / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        return place


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("recipes")
    folder.chmod(0o755)
    packages.archive("sid", folder / "sid").unpack(["pebble"], folder / "newest")  # has profiles
    with (
        hosts.pair() as (client, server),
        pebble(
            client,
            folder / "pebble",
            program=str(folder / "newest/usr/bin/pebble"),
            profiles={"default": 90 * DAY, "shortlived": 6 * DAY},
        ) as authority,
        systemd(server, folder / "disk", unpacked.unpack(SERVICES, folder)) as manager,
    ):
        for name in (NAME, MAIL):
            authority.resolve(name, ipv4=server.ipv4)
        manager.adopt("nginx")
        manager.adopt("tomcat10", "tomcat")
        for service in SERVICES:
            unpacked.settle(manager, service)
        yield Machine(client, server, authority, manager, install_certbot(manager, authority))


@pytest.fixture(autouse=True)
def fresh(machine: Machine) -> Iterator[None]:
    """Nothing is stored yet but what tells Certbot that the authority is this one; the timer's units are there."""
    for folder in ("etc", "var/lib", "var/log"):
        shutil.rmtree(machine.systemd.disk / folder / "letsencrypt", ignore_errors=True)
    machine.put("etc/letsencrypt/cli.ini", SETTINGS.format(directory=machine.authority.directory))
    for unit in ("certbot.service", "certbot.timer"):
        machine.systemd.add(unit, file_of("recipes/renewal.md", f"/etc/systemd/system/{unit}"))
    before = machine.server.rules()
    yield
    for program in ("iptables", "ip6tables"):
        for chain in ("PREROUTING", "POSTROUTING"):  # which recipes have rules in
            machine.server.run(program, "-t", "nat", "-F", chain)
    assert machine.server.rules() == before


@contextlib.contextmanager
def debians_nginx(machine: Machine, site: str) -> Iterator[None]:
    """Run nginx as Debian's package does, with a site."""
    machine.put("etc/nginx/sites-available/default", site)
    with machine.systemd.running("nginx"):
        yield


def test_an_installer_configures_nginx_and_each_renewal_is_loaded(machine: Machine) -> None:
    with debians_nginx(machine, SITE):
        machine.follow("installer.md", "Certbot installs the certificate: `-a standalone-nfq -i nginx`", 0, 2)
        assert machine.served() == machine.certificate(NAME)
        renewed = machine.renew(NAME)
        wait_until(functools.partial(machine.shows, renewed), "nginx has loaded the new certificate")
    assert "acme-challenge" not in (machine.systemd.disk / "var/log/nginx/access.log").read_text()


def test_an_installer_configures_apache_and_each_renewal_is_loaded(machine: Machine) -> None:
    machine.put("etc/apache2/sites-available/000-default.conf", APACHES_SITE)
    with machine.systemd.running("apache2"):
        machine.follow("installer.md", "Certbot installs the certificate: `-a standalone-nfq -i nginx`", 1, 2)
        assert machine.served() == machine.certificate(NAME)
        renewed = machine.renew(NAME)
        wait_until(functools.partial(machine.shows, renewed), "Apache has loaded the new certificate")
    logs = (machine.systemd.disk / "var/log/apache2").glob("*access.log")
    assert not any("acme-challenge" in each.read_text() for each in logs)


def test_a_container_whose_port_is_published_keeps_running_and_reloads(machine: Machine, tmp_path: Path) -> None:
    with hosts.host("b") as container:
        hosts.publish(machine.server, container, 8080)
        with nginx(container, tmp_path / "nginx", 8080) as web_server:
            machine.put("usr/local/sbin/docker", DOCKER.format(process=web_server.process.pid)).chmod(0o755)
            machine.follow("docker.md", "A Docker host whose port 80 is published", 1)
            assert machine.renew(NAME)
            assert "acme-challenge" not in web_server.access_log


@contextlib.contextmanager
def mail_server(machine: Machine) -> Iterator[None]:
    """Run Postfix and Dovecot as Debian's packages do, as they are configured at installation."""
    folders = [machine.systemd.disk / "etc" / service for service in ("postfix", "dovecot")]
    with tempfile.TemporaryDirectory() as saved:
        for each in folders:
            run(["cp", "--archive", str(each), saved])
        try:
            with machine.systemd.running("postfix", "dovecot"):
                yield
        finally:
            for each in folders:
                run(["cp", "--archive", f"{saved}/{each.name}/.", str(each)])


def test_a_mail_server_needs_no_web_server(machine: Machine) -> None:
    page, heading = "mail.md", "A mail server without a web server"
    dovecots = machine.systemd.disk / "etc/dovecot/conf.d/10-ssl.conf"
    with mail_server(machine):
        machine.follow(page, heading, 0, 1)
        dovecots.write_text(dovecots.read_text() + blocks(f"recipes/{page}", heading)[2])
        machine.systemd.control("reload", "dovecot")
        for newest in (machine.certificate, machine.renew):
            certificate = newest(MAIL)
            for port in (SUBMISSIONS, IMAPS):
                wait_until(functools.partial(machine.shows, certificate, port), f"port {port} has the certificate")


def test_a_closed_port_is_open_for_the_validation_of_a_mail_server(machine: Machine) -> None:
    closed = ("INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
    machine.server.run("iptables", "-A", *closed)
    before = machine.server.rules()
    with mail_server(machine):
        machine.follow("mail.md", "If the firewall closes port 80", 0)
        first = machine.certificate(MAIL)
        assert machine.renew(MAIL) != first
    assert machine.server.rules() == before
    machine.server.run("iptables", "-D", *closed)


def test_tomcat_has_each_new_certificate(machine: Machine) -> None:
    page, script = "Tomcat on port 8080", "/usr/local/sbin/give-tomcat-the-certificate"
    configuration = machine.systemd.disk / "etc/tomcat10/server.xml"
    service = '<Service name="Catalina">'
    connector = blocks("recipes/tomcat.md", page)[3]
    configuration.write_text(configuration.read_text().replace(service, f"{service}\n{connector}"))
    with machine.systemd.running("tomcat10"):
        wait_until(functools.partial(machine.server.listens, 8080), "Tomcat has started, without a certificate", 60)
        machine.put(script.lstrip("/"), file_of("recipes/tomcat.md", script))
        machine.follow("tomcat.md", page, 0, 2)
        for newest in (machine.certificate, machine.renew):
            wait_until(functools.partial(machine.shows, newest(NAME), 8443), "Tomcat has the certificate", 60)


def test_an_address_gets_a_certificate_for_six_days(machine: Machine) -> None:
    machine.server.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "eth0")
    machine.client.run("ip", "route", "add", f"{ADDRESS}/32", "via", machine.server.ipv4)
    with debians_nginx(machine, SITE):
        machine.follow("addresses.md", "Certificates for addresses, and the short-lived profile", 0)
        machine.follow("addresses.md", "For names", 0)
    for lineage, name in ((ADDRESS, ipaddress.ip_address(ADDRESS)), (NAME, NAME)):
        certificate = machine.certificate(lineage)
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [each.value for each in alternatives] == [name]
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < datetime.timedelta(days=7)


def test_a_deploy_hook_is_run_when_it_was_given_and_when_it_was_added(machine: Machine) -> None:
    machine.put("var/www/index.html", "")
    with debians_nginx(machine, SITE):
        machine.follow("renewal.md", "The server must load the new certificate", 0, 1)
        machine.put("etc/nginx/sites-available/default", SITE + TLS_SITE.format(name=NAME))
        machine.systemd.control("reload", "nginx")
        renewed = machine.renew(NAME)
        wait_until(functools.partial(machine.shows, renewed), "nginx has loaded the new certificate")
        machine.follow("renewal.md", "Whether a renewal will work", 0)


def test_a_web_server_is_reloaded_when_another_program_renews(machine: Machine) -> None:
    for unit in ("reload-nginx.path", "reload-nginx.service"):
        machine.systemd.add(unit, file_of("container.md", f"/etc/systemd/system/{unit}"))
    machine.systemd.follow("certbot certonly -a standalone-nfq -d example.com")
    with debians_nginx(machine, SITE + TLS_SITE.format(name=NAME)):
        machine.systemd.follow(blocks("container.md", "A service that renews")[3])
        renewed = machine.renew(NAME)
        wait_until(functools.partial(machine.shows, renewed), "nginx has loaded the new certificate")
    machine.systemd.control("disable", "--now", "reload-nginx.path")


def test_the_timer_runs(machine: Machine) -> None:
    machine.follow("renewal.md", "Whether something renews", 3)
    assert "certbot.timer" in machine.systemd.follow(blocks("recipes/renewal.md", "Whether something renews")[0])


def test_all_names_below_a_domain_are_in_one_certificate(pair: tuple[Host, Host], tmp_path: Path) -> None:
    world = World(*pair, tmp_path / "world")
    world.internet.run("ip", "address", "add", f"{RESOLVER}/24", "dev", "eth0")
    world.delegate(server=f"ns.{NAME}.", glue=world.machine.ipv4)
    world.own.append(zone(NAME, AT_MACHINE))
    command = shlex.split(blocks("recipes/wildcards.md", "Wildcards")[0])
    with certbot_by(world, RESOLVERS[2], tmp_path) as certbot:
        for result in (certbot.run(*command[1:], *certbot.account()), certbot.renew()):
            assert result.returncode == 0, result.stdout
        assert names(certbot.certificate(NAME)) == {NAME, f"*.{NAME}"}
