"""What is tried: each step's result is a cell of the table, under the step's heading."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from lab.certbot import RENEW
from lab.nameservers import ZONE
from scripts.distros.installations import PLUGIN
from scripts.distros.releases import FORMER_MODULE
from scripts.distros.rootfs import Root
from scripts.distros.trial import FOUR, NAMES, Distribution, Trial, Unexpected, undisturbed

_COMPILERS = ("cc", "tcc", "*gcc*", "*clang*")
_WILDCARD = (ZONE, f"*.{ZONE}")
_LISTED = "* standalone-nfq\n"
_ANYTHING_OF_IT = "*standalone[-_]nfq*"
_ELSEWHERE = ("root/", "tmp/", "var/cache/apt/", "var/log/")
"""Where what was installed may still be named: what was copied there by us, and logs."""

DISTRIBUTIONS = (
    Distribution("debian-12", "bookworm"),
    Distribution("debian-13", "trixie"),
    Distribution("debian-sid", "sid"),
)


def _build(under_way: Trial) -> str:
    """Build what is installed, and have it examined; bring the root file system up to date, and start the clock."""
    cell = under_way.installation.build(under_way.build_root, under_way.former, under_way.current)
    under_way.root.update()
    under_way.begun = time.monotonic()
    return cell


def _install(under_way: Trial) -> str:
    """Install the plugin as the documents say."""
    under_way.installation.install(under_way.root, under_way.current)
    for program in filter(under_way.root.has_program, _COMPILERS):
        raise Unexpected(f"{program} is installed")
    return f"{under_way.installation.name}, no compiler"


def _firewall(under_way: Trial) -> str:
    return under_way.program("iptables", "--version")


def _list(under_way: Trial) -> str:
    """Have Certbot list its plugins."""
    listed = under_way.certbot.do("plugins")
    if _LISTED not in listed:
        raise Unexpected(f"standalone-nfq is not among these:\n{listed}")
    return "yes"


def _doctor(under_way: Trial) -> str:
    """Have the doctor find nothing that is in the way of any of the three challenges."""
    for challenge in ("http-01", "tls-alpn-01", "dns-01"):
        under_way.program(PLUGIN, "doctor", "--challenge", challenge, ZONE)
    return "nothing in the way"


def _issue(under_way: Trial) -> str:
    """Get a first certificate."""
    with undisturbed(under_way):
        under_way.certbot.succeeded(under_way.certbot.certonly(*NAMES))
    under_way.certbot.serial_number(FOUR)
    return "yes"


def _renew(under_way: Trial) -> str:
    """Get a second one, as the package's own timer does when it is due."""
    _renew_lineage(under_way, FOUR)
    return f"yes, {time.monotonic() - under_way.begun:.0f} s after the first command"


def _renew_lineage(under_way: Trial, name: str) -> None:
    certbot = under_way.certbot
    before = certbot.serial_number(name)
    with undisturbed(under_way):
        certbot.take_new_account()
        output = certbot.do(*RENEW, "--cert-name", name)
    if certbot.serial_number(name) == before:
        raise Unexpected(f"the certificate is the same as before:\n{output}")


def _dry_run(under_way: Trial, name: str) -> None:
    """Renew without saving anything; the authority is named, as Certbot would take Let's Encrypt's for trials."""
    before = under_way.certbot.serial_number(name)
    authority = ("--server", under_way.certbot.authority.directory)
    with undisturbed(under_way):
        output = under_way.certbot.do(
            "renew", "--dry-run", "--no-random-sleep-on-renew", "--cert-name", name, *authority
        )
    if "all simulated renewals succeeded" not in output or under_way.certbot.serial_number(name) != before:
        raise Unexpected(f"no dry run, or not only a dry run:\n{output}")


def _by(*options: str, names: tuple[str, ...]) -> Callable[[Trial], str]:
    """Return the step that gets, renews and tries to renew a certificate with certain options."""

    def step(under_way: Trial) -> str:
        lineage = names[0]
        with undisturbed(under_way):
            under_way.certbot.succeeded(under_way.certbot.certonly(*names, options=(*options, "--force-renewal")))
        _renew_lineage(under_way, lineage)
        _dry_run(under_way, lineage)
        return "issued, renewed, dry run"

    return step


def _remove(under_way: Trial) -> str:
    """Remove it, and see that nothing of it is left, and that Certbot goes on."""
    under_way.installation.remove(under_way.root)
    _has_nothing_left(under_way.root)
    if _LISTED in under_way.certbot.do("plugins"):
        raise Unexpected("it is still listed")
    return "nothing is left"


def _has_nothing_left(root: Root) -> None:
    left = [name for name in _names_in(root) if not name.startswith(_ELSEWHERE)]
    if left:
        raise Unexpected("\n".join(["These are left:", *left]))


def _names_in(root: Root) -> Iterator[str]:
    for path in root.folder.rglob(_ANYTHING_OF_IT):
        yield str(path.relative_to(root.folder))


def _upgrade(under_way: Trial) -> str:
    """Get a certificate with the version before, and renew it with this one."""
    former, current = under_way.former, under_way.current
    under_way.installation.install(under_way.root, former)
    under_way.certbot.succeeded(under_way.certbot.certonly(*NAMES, options=("--force-renewal",)))
    under_way.installation.install(under_way.root, current)
    _is_current(under_way)
    _renew_lineage(under_way, FOUR)
    return f"{former.version} to {current.version}, renewed"


def _replace(under_way: Trial) -> str:
    """Install it where pip has installed the version before."""
    cell = under_way.installation.replace(under_way.root, under_way.former, under_way.current)
    _is_current(under_way)
    return cell


def _is_current(under_way: Trial) -> None:
    if list(under_way.root.folder.rglob(f"certbot_standalone_nfq/{FORMER_MODULE}")):
        raise Unexpected(f"{FORMER_MODULE} of the version before is left")
    if under_way.version(PLUGIN) != under_way.current.version:
        raise Unexpected(f"{under_way.version(PLUGIN)} is installed")


STEPS: dict[str, Callable[[Trial], str]] = {
    "Built": _build,
    "Installed": _install,
    "Release": lambda under_way: (under_way.root.folder / "etc/debian_version").read_text().strip(),
    "Python": lambda under_way: under_way.python("import platform; print(platform.python_version())"),
    "Certbot": lambda under_way: under_way.version("certbot"),
    "scapy": lambda under_way: under_way.version("scapy"),
    "Firewall": _firewall,
    "Listed": _list,
    "Issued": _issue,
    "Renewed": _renew,
    "Doctor": _doctor,
    "By tls-alpn-01": _by("--preferred-challenges", "tls-alpn-01", names=NAMES),
    "By dns-01": _by("--preferred-challenges", "dns", names=_WILDCARD),
    "Removed": _remove,
    "Upgraded": _upgrade,
    "Over pip's": _replace,
}
"""What is done, in this order, under the heading of the column that says what came of it."""
