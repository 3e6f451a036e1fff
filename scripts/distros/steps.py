"""What is tried: each step's result is a cell of the table, under the step's heading."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from scripts.distros.rootfs import Root
from scripts.distros.trial import NAMES, Distribution, Firewall, Trial, Unexpected, undisturbed

_PACKAGES = ("certbot", "python3-dnspython", "python3-scapy", "python3-pip")
_COMPILERS = ("cc", "tcc", "*gcc*", "*clang*")

DISTRIBUTIONS = (
    Distribution("debian-12", "bookworm"),
    Distribution("debian-13", "trixie"),
    Distribution("debian-sid", "sid"),
)
FIREWALLS = (Firewall("iptables", "iptables"),)


def _prepare(under_way: Trial) -> str:
    """Install the distribution's own packages."""
    root, firewall = under_way.root, under_way.firewall
    root.install(*_PACKAGES, firewall.package)
    _lacks(root, *(other.program for other in FIREWALLS if other is not firewall))
    return (root.folder / "etc/debian_version").read_text().strip()


def _install(under_way: Trial) -> str:
    """Install the plugin as the README says, but from a wheel."""
    _lacks(under_way.root, *_COMPILERS)
    place = Path("root") / under_way.wheel.name
    shutil.copyfile(under_way.wheel, under_way.root.folder / place)
    pip = ("/usr/bin/python3", "-m", "pip", "install", "--break-system-packages", "--no-deps")
    under_way.root.run(*pip, f"/{place}")
    return "pip, no compiler"


def _lacks(root: Root, *programs: str) -> None:
    for program in filter(root.has_program, programs):
        raise Unexpected(f"{program} is installed")


def _list(under_way: Trial) -> str:
    """Have Certbot list its plugins."""
    listed = _succeeded(under_way, under_way.certbot.run("plugins"))
    if "* standalone-nfq\n" not in listed:
        raise Unexpected(f"standalone-nfq is not among these:\n{listed}")
    return "yes"


def _issue(under_way: Trial) -> str:
    """Get a first certificate."""
    with undisturbed(under_way):
        _succeeded(under_way, under_way.certbot.certonly(*NAMES))
    under_way.serial_number()
    return "yes"


def _renew(under_way: Trial) -> str:
    """Get a second one, as the package's own timer does when it is due."""
    before = under_way.serial_number()
    with undisturbed(under_way):
        result = under_way.certbot.renew()
        output = _succeeded(under_way, result)
    if under_way.serial_number() == before:
        raise Unexpected(f"the certificate is the same as before:\n{output}")
    return "yes"


def _by_tls_alpn_01(under_way: Trial) -> str:
    """Get and renew one by a handshake on port 443, which no server has."""
    options = ("--preferred-challenges", "tls-alpn-01", "--force-renewal")
    with undisturbed(under_way):
        _succeeded(under_way, under_way.certbot.certonly(*NAMES, options=options))
        before = under_way.serial_number()
        output = _succeeded(under_way, under_way.certbot.renew())
    if under_way.serial_number() == before:
        raise Unexpected(f"the certificate is the same as before:\n{output}")
    return "issued, renewed"


def _succeeded(under_way: Trial, result: subprocess.CompletedProcess[str]) -> str:
    if result.returncode:
        raise Unexpected(f"status {result.returncode}\n{result.stdout}\n{under_way.certbot.log}")
    return result.stdout


STEPS: dict[str, Callable[[Trial], str]] = {
    "Release": _prepare,
    "Python": lambda under_way: under_way.python("import platform; print(platform.python_version())"),
    "Certbot": lambda under_way: under_way.version("certbot"),
    "scapy": lambda under_way: under_way.version("scapy"),
    "Firewall": lambda under_way: under_way.root.run(under_way.firewall.program, "--version").strip(),
    "Installed": _install,
    "Listed": _list,
    "Issued": _issue,
    "Renewed": _renew,
    "By tls-alpn-01": _by_tls_alpn_01,
}
"""What is done, in this order, under the heading of the column that says what came of it."""
