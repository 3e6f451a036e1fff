"""Where the plugin cannot work, Certbot works all the same: other plugins are listed, other certificates renewed."""

from __future__ import annotations

import errno
import shutil
import socket
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

import certbot_standalone_nfq
from certbot_standalone_nfq.capture.nfqueue.messages import NETLINK_NETFILTER
from lab.certbot import RENEW, Certbot
from tests.e2e.conftest import Internet

OURS, OTHER = "four.example.com", "both.example.com"
WITHOUT_ANY_WAY = """
for program in xtables-nft-multi xtables-legacy-multi nft; do mount --bind /dev/null /usr/sbin/$program; done
exec setpriv --bounding-set=-bpf,-sys_admin "$@"
"""
WITHOUT_EBPF = ("setpriv", "--bounding-set=-bpf,-sys_admin")
NO_NETFILTER = (errno.EPROTONOSUPPORT, socket.AF_NETLINK, NETLINK_NETFILTER)


@pytest.fixture(scope="module")
def two_lineages(everybody: Internet) -> Iterator[Certbot]:
    """Certbot with one certificate by the plugin, while that worked, and one by another."""
    certbot = everybody.certbot
    webroot = ("-a", "webroot", "-w", str(everybody.nginx.folder / "site"))
    for authenticator, name in ((("-a", "standalone-nfq"), OURS), (webroot, OTHER)):
        result = certbot.run("certonly", *authenticator, "-d", name, *certbot.account())
        assert result.returncode == 0, result.stdout
    certbot.take_new_account()
    yield certbot
    shutil.rmtree(certbot.folder)


def serial_numbers(certbot: Certbot) -> dict[str, int]:
    return {
        name: x509.load_pem_x509_certificate(certbot.certificate(name).read_bytes()).serial_number
        for name in (OURS, OTHER)
    }


def renewed(certbot: Certbot, *launcher: str) -> tuple[set[str], str]:
    """List the plugins and renew all certificates, with Certbot started in a way; return which were, and the output."""
    limited = certbot.by(*launcher)
    listed = limited.run("plugins", "--prepare")
    assert listed.returncode == 0, listed.stdout
    assert {"* standalone\n", "* webroot\n"} <= set(listed.stdout.splitlines(keepends=True))
    before = serial_numbers(certbot)
    result = limited.run(*RENEW)
    after = serial_numbers(certbot)
    assert "Traceback" not in result.stdout
    return {name for name in after if after[name] != before[name]}, " ".join(result.stdout.split())


def broken(folder: Path, package: str, outbreak: str) -> tuple[str, ...]:
    """Put a package that does something else than load in place of the real one."""
    (folder / f"{package}.py").write_text(outbreak)
    return ("env", f"PYTHONPATH={folder}")


def without(folder: Path, package: str) -> tuple[str, ...]:
    """Lay out what is installed in this environment, but for a package."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.lower().startswith(package):
            (folder / path.name).symlink_to(path)
    ours = folder / certbot_standalone_nfq.__name__
    if not ours.exists():  # it is installed as a link to a checkout
        ours.symlink_to(Path(certbot_standalone_nfq.__file__).parent)
    return ("env", f"PYTHONPATH={folder}", sys.executable, "-S")


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        (
            ("setpriv", "--bounding-set=-net_admin,-net_raw"),
            "without CAP_NET_ADMIN and CAP_NET_RAW, which root lacks here. Start",
        ),
        (("unshare", "--mount", "sh", "-c", WITHOUT_ANY_WAY, "sh"), "Install your distribution's"),
        (
            (*WITHOUT_EBPF, sys.executable, "-m", "lab.seccomp", *(str(number) for number in NO_NETFILTER)),
            "This kernel has no packet queue for user space: module nfnetlink_queue",
        ),
    ],
    ids=["capabilities", "firewall-programs", "queues"],
)
def test_without_what_it_takes_of_the_machine(two_lineages: Certbot, launcher: tuple[str, ...], words: str) -> None:
    which, output = renewed(two_lineages, *launcher)
    assert which == {OTHER}
    assert words in output


def test_without_scapy(two_lineages: Certbot, tmp_path: Path) -> None:
    which, output = renewed(two_lineages, *without(tmp_path, "scapy"))
    assert which == {OTHER}
    assert "cannot load the Python package scapy: it is not installed. Reinstall scapy into Certbot's" in output


@pytest.mark.parametrize("outbreak", ["1 / 0", "raise SystemExit(3)", "not Python", "VERSION = '1.0'  # and no more"])
def test_with_a_scapy_that_cannot_be_loaded(two_lineages: Certbot, tmp_path: Path, outbreak: str) -> None:
    which, output = renewed(two_lineages, *broken(tmp_path, "scapy", outbreak))
    assert which == {OTHER}
    assert "The standalone-nfq plugin cannot load the Python package scapy:" in output


@pytest.mark.parametrize("outbreak", ["1 / 0", "raise SystemExit(3)"])
def test_with_an_fnfqueue_that_cannot_be_loaded_it_works(two_lineages: Certbot, tmp_path: Path, outbreak: str) -> None:
    which, _ = renewed(two_lineages, *broken(tmp_path, "fnfqueue", outbreak))
    assert which == {OURS, OTHER}
