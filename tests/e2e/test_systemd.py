"""Renewals by certbot.service, set up as docs/systemd.md says and started by a real systemd."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from lab.documents import DOCS, blocks
from lab.ebpf import attached
from lab.hosts import Host
from lab.interceptor import EBPF, VARIANTS
from lab.processes import wait_until
from lab.systemd import ServiceCertbot, Systemd, install_certbot, systemd
from lab.tls import VISITOR, certificate_at
from tests.e2e.conftest import Internet
from tests.e2e.test_certbot import serial_number

NAME = "four.example.com"
LOST = "lost.example.com"
NOWHERE = "198.51.100.77"
"""An address of the network between the two hosts, which none of them has."""
GROUP = 61313
PAGE = "systemd.md"
HTTPS = 8443
WEB_SERVER = f"""\
pid /run/web-server.pid;
events {{}}
http {{
    access_log off;
    server {{
        listen {HTTPS} ssl;
        ssl_certificate /etc/letsencrypt/live/{NAME}/fullchain.pem;
        ssl_certificate_key /etc/letsencrypt/live/{NAME}/privkey.pem;
    }}
}}
"""
WEB_SERVER_UNIT = """\
[Service]
Type=forking
StateDirectory=nginx
PIDFile=/run/web-server.pid
ExecStart=/usr/sbin/nginx -c /etc/web-server.conf -e /var/log/web-server.log
ExecReload=/bin/kill -HUP $MAINPID
"""
SERVICES = "etc/systemd/system"
POINTS = 26
PROBE = """\
[Service]
Type=oneshot
ExecStart=/bin/sh /etc/{name}.sh
StandardOutput=append:/var/log/{name}.log
"""
CANNOT = {
    "write-a-unit": "test -w /etc/systemd/system",
    "write-a-program": "test -w /usr/sbin/nginx",
    "see-homes": "ls /root",
    "read-a-file-of-another-user": "cat /opt/foreign",
    "become-another-user": "setpriv --reuid=65534 true",
    "see-devices": "test -e /dev/vda -o -e /dev/sda -o -e /dev/kmsg",
    "mount": "mount -t tmpfs none /mnt",
    "make-a-namespace": "unshare --net true",
    "set-the-kernel": "test -w /proc/sys/kernel/core_pattern",
    "read-the-kernels-log": "dmesg",
    "rename-the-machine": "hostname other",
    "make-a-file-that-runs-as-root": "install -m 4755 /bin/true /var/log/letsencrypt/true",
}
"""What the page says that a program in the service cannot do, and how it would."""
NEEDS = {
    "ReadWritePaths=/srv": "test -w /srv",
    "CapabilityBoundingSet=CAP_DAC_OVERRIDE": "cat /opt/foreign",
    "CapabilityBoundingSet=CAP_SETUID CAP_SETGID": "setpriv --reuid=65534 --regid=65534 --clear-groups true",
    "ProtectHome=no": "ls /root",
    "MemoryDenyWriteExecute=no": "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
}
"""What the page says that a hook can do with a line more, and without it cannot."""
CAN = {
    "ask-systemd": "systemctl show certbot.service",
    "give-a-file-away": "cd /var/log/letsencrypt && rm -f mine && touch mine && chown 65534 mine",
}


@pytest.fixture(scope="module")
def manager(everybody: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    with systemd(everybody.server, tmp_path_factory.mktemp("systemd") / "disk") as made:
        yield made


@pytest.fixture(scope="module")
def installed(everybody: Internet, manager: Systemd) -> ServiceCertbot:
    """Certbot with its units, and with the limits on them."""
    made = install_certbot(manager, everybody.authority)
    manager.follow(blocks(PAGE, "A timer for Certbot in a venv")[0])
    manager.follow(blocks(PAGE, "Limits for the service")[0])
    return made


@pytest.fixture
def confined(installed: ServiceCertbot) -> Iterator[ServiceCertbot]:
    """The same, with nothing stored."""
    yield installed
    for folder in ("etc", "var/lib", "var/log"):
        shutil.rmtree(installed.folder / folder / "letsencrypt", ignore_errors=True)


def issue(certbot: ServiceCertbot, *options: str, name: str = NAME) -> Path:
    """Get a certificate that is due for renewal, without limits, and with an account that has no authorization."""
    result = certbot.certonly(name, options=options)
    assert result.returncode == 0, result.stdout
    certbot.take_new_account()
    certbot.make_due(name)
    return certbot.certificate(name)


def modes(certbot: ServiceCertbot, number: int) -> dict[str, tuple[str, int]]:
    """Return who may do what with the files of one of a lineage's certificates."""
    found = (certbot.configuration / "archive" / NAME).glob(f"*{number}.pem")
    states = {path.name.rstrip(f"{number}.pem"): path.stat() for path in found}
    return {name: (stat.filemode(state.st_mode), state.st_gid) for name, state in states.items()}


def run_analyze(certbot: ServiceCertbot, *arguments: str) -> str:
    """Run systemd-analyze; return all it says. Fails as it does."""
    command = certbot.systemd.command("systemd-analyze", "--no-pager", *arguments)
    finished = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def captures(server: Host) -> tuple[object, ...]:
    """Return what there is of any way to capture."""
    return server.rules(), server.queues(), attached(server)


@contextlib.contextmanager
def web_server(manager: Systemd) -> Iterator[None]:
    """Run nginx as a service that has the certificate at a port for HTTPS."""
    (manager.disk / "etc/web-server.conf").write_text(WEB_SERVER)
    (manager.disk / SERVICES / "web-server.service").write_text(WEB_SERVER_UNIT)
    manager.control("daemon-reload")
    with manager.running("web-server"):
        yield


def served(everybody: Internet) -> int:
    """Return the serial number of the certificate that the web server has loaded."""
    shown = certificate_at(everybody.client, everybody.server.ipv4, NAME, VISITOR, HTTPS)
    return x509.load_der_x509_certificate(shown).serial_number


@pytest.mark.parametrize("way", [*VARIANTS, *EBPF])
def test_a_renewal_succeeds_within_the_limits(undisturbed: Internet, confined: ServiceCertbot, way: str) -> None:
    certificate = issue(confined, f"--standalone-nfq-capture={way}")
    first = serial_number(certificate)
    confined.systemd.control("start", "certbot.service")
    assert serial_number(certificate) != first
    assert f"captured by {way}, as it was asked for" in confined.log
    assert modes(confined, 1) == modes(confined, 2)


def test_a_deploy_hook_reloads_a_web_server_which_then_has_the_new_certificate(
    everybody: Internet, confined: ServiceCertbot
) -> None:
    certificate = issue(confined, "--deploy-hook", "systemctl reload web-server")
    with web_server(confined.systemd):
        assert served(everybody) == serial_number(certificate)
        tried = blocks(PAGE, "Deploy hooks")[1]
        (confined.configuration / "cli.ini").write_text(f"server = {everybody.authority.directory}\n")
        confined.systemd.follow(tried)
        assert "Running deploy-hook command: systemctl reload web-server" in confined.log
        confined.systemd.control("start", "certbot.service")
        renewed = serial_number(certificate)
        wait_until(lambda: served(everybody) == renewed, "the web server has loaded the new certificate")


def test_what_takes_a_capability_more_works_within_the_limits(everybody: Internet, confined: ServiceCertbot) -> None:
    """A private key of another group, and a port where nothing listens; a handshake takes a file in memory, too."""
    certificate = issue(confined, "--preferred-challenges=tls-alpn-01")
    first = serial_number(certificate)
    for key in (confined.configuration / "archive" / NAME).glob("privkey*"):
        os.chown(key, 0, GROUP)
        key.chmod(0o640)
    confined.systemd.control("start", "certbot.service")
    assert serial_number(certificate) != first
    assert modes(confined, 2)["privkey"] == ("-rw-r-----", GROUP)
    assert modes(confined, 1) == modes(confined, 2)


@pytest.mark.parametrize("way", [*VARIANTS[:1], *EBPF])
@pytest.mark.parametrize("ending", ["kill --signal=KILL --kill-whom=main", "stop"])
def test_a_service_that_is_ended_in_the_middle_leaves_the_machine_clean(
    everybody: Internet, confined: ServiceCertbot, way: str, ending: str
) -> None:
    """The watchdog, which is a process of the service too, has the time that systemd gives to processes to end."""
    server, control = everybody.server, confined.systemd.control
    before = captures(server)
    everybody.authority.resolve(LOST, ipv4=server.ipv4)
    issue(confined, f"--standalone-nfq-capture={way}", name=LOST)
    everybody.authority.resolve(LOST, ipv4=NOWHERE)
    everybody.client.run("ip", "neigh", "replace", NOWHERE, "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    control("start", "--no-block", "certbot.service")
    wait_until(lambda: captures(server) != before, "the challenge is pending")
    control(*ending.split(), "certbot.service")
    wait_until(lambda: captures(server) == before, "nothing is captured any more")
    wait_until(lambda: "ing" not in control("show", "--property=ActiveState", "certbot.service"), "it has ended")


def test_systemd_finds_no_fault_with_the_units(installed: ServiceCertbot) -> None:
    units = ("certbot.service", "certbot.timer")
    assert run_analyze(installed, "verify", *units) == ""


def test_the_limits_are_of_use(installed: ServiceCertbot) -> None:
    """The threshold is in tenths of systemd's points; without the limits there are 96."""
    run_analyze(installed, "security", "--offline=yes", f"--threshold={POINTS}", "certbot.service")


def probed(certbot: ServiceCertbot, name: str, commands: dict[str, str], *more: str, limited: bool = True) -> list[str]:
    """Return which commands succeed in a service, limited as Certbot's and with more lines of configuration."""
    for folder in ("etc", "var/lib", "var/log"):
        (certbot.folder / folder / "letsencrypt").mkdir(exist_ok=True)
    foreign = certbot.folder / "opt/foreign"
    foreign.touch(0o600)
    os.chown(foreign, GROUP, GROUP)
    tried = (f"if {{ {each}; }} >/dev/null 2>&1; then echo '{key}'; fi\n" for key, each in commands.items())
    (certbot.folder / f"etc/{name}.sh").write_text("".join((*tried, "echo end\n")))
    unit = certbot.folder / SERVICES / f"{name}.service"
    unit.write_text(PROBE.format(name=name))
    if limited:
        shutil.copytree(certbot.folder / SERVICES / "certbot.service.d", f"{unit}.d")
        Path(f"{unit}.d/zz-more.conf").write_text("\n".join(("[Service]", *more)))
    certbot.systemd.control("daemon-reload")
    certbot.systemd.control("start", name)
    *done, end = (certbot.folder / f"var/log/{name}.log").read_text().splitlines()
    assert end == "end"
    return done


def test_what_the_limits_take_away_can_be_done_without_them(confined: ServiceCertbot) -> None:
    everything = {**CANNOT, **NEEDS, **CAN}
    assert probed(confined, "free", everything, limited=False) == list(everything)
    assert probed(confined, "limited", everything) == list(CAN)


@pytest.mark.parametrize("line", NEEDS)
def test_with_a_line_more_a_hook_can_do_what_the_page_says(confined: ServiceCertbot, line: str) -> None:
    assert f"`{line.partition('/')[0]}`" in (DOCS / PAGE).read_text()
    assert probed(confined, f"hook-{list(NEEDS).index(line)}", {line: NEEDS[line]}, line) == [line]


def test_systemd_can_be_kept_from_the_service(confined: ServiceCertbot) -> None:
    (added,) = blocks(PAGE, "What is taken away")
    (line,) = (each for each in added.splitlines() if each.startswith("InaccessiblePaths="))
    assert probed(confined, "kept", CAN, line) == ["give-a-file-away"]
