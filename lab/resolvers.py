"""Resolvers that validate, as CAs and their users run them: by which a challenge is looked up from the root on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import run, running, wait_until
from lab.zones import unbound

_BIND = """\
options {{
    directory "{folder}";
    pid-file "{folder}/named.pid";
    session-keyfile none;
    listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    recursion yes;
    allow-recursion {{ any; }};
    dnssec-validation yes;
}};
controls {{ }};
trust-anchors {{ . static-ds {tag} {algorithm} {kind} "{digest}"; }};
zone "." {{ type hint; file "{folder}/root.hints"; }};
"""
_KRESD = """\
net.listen('{address}', 53)
cache.open(10 * MB, 'lmdb://{folder}/cache')
modules = {{ 'hints > iterate' }}
hints.root({{ ['ns.root.'] = '{root}' }})
trust_anchors.remove('.')
trust_anchors.add('{anchor}')
"""
_RECURSOR = """\
local-address={address}
hint-file={folder}/root.hints
lua-config-file={folder}/anchor.lua
dnssec=validate
dont-query=
allow-from=0.0.0.0/0
socket-dir=.
security-poll-suffix=
"""
_LETS_ENCRYPT = {
    "qname-minimisation": "no",
    "use-caps-for-id": "yes",
    "cache-max-ttl": "0",
    "cache-max-negative-ttl": "0",
}
"""What its operators have said about their resolvers."""


@dataclass(frozen=True)
class Resolver:
    """A resolver program, and how it is set up."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def program(self) -> str:
        """The first word of its name."""
        return self.name.split()[0].rstrip(",")

    @property
    def version(self) -> str:
        """The version of the package that is installed."""
        return run(["dpkg-query", "-W", "-f", "${Version}", _PACKAGES[self.program]])

    @contextlib.contextmanager
    def running(self, host: Host, folder: Path, address: str, root: str, anchor: str) -> Iterator[None]:
        """Run it at an address, given the address of the root's name server, and the root's DS record."""
        if self.program == "unbound":
            with unbound(host, folder, address, root, anchor, dict(self.options)):
                yield
            return
        folder.mkdir(parents=True)
        (folder / "cache").mkdir()
        (folder / "root.hints").write_text(f". 60 IN NS ns.root.\nns.root. 60 IN A {root}\n")
        command = _PREPARE[self.program](folder, address, root, anchor)
        with (folder / "log").open("w") as log, running(host.command(*command), stdout=log, stderr=log, cwd=folder):
            wait_until(functools.partial(_listens, host, address), f"{self.name} listens: {folder}")
            yield


def _bind(folder: Path, address: str, _root: str, anchor: str) -> tuple[str, ...]:
    tag, algorithm, kind, digest = anchor.split(" DS ")[1].split(maxsplit=3)
    text = _BIND.format(
        folder=folder, address=address, tag=tag, algorithm=algorithm, kind=kind, digest=digest.replace(" ", "")
    )
    (folder / "named.conf").write_text(text)
    return "named", "-f", "-g", "-c", str(folder / "named.conf")


def _kresd(folder: Path, address: str, root: str, anchor: str) -> tuple[str, ...]:
    text = _KRESD.format(folder=folder, address=address, root=root, anchor=anchor)
    (folder / "kresd.conf").write_text(text)
    return "kresd", "-n", "-c", str(folder / "kresd.conf"), str(folder)


def _recursor(folder: Path, address: str, _root: str, anchor: str) -> tuple[str, ...]:
    (folder / "recursor.conf").write_text(_RECURSOR.format(folder=folder, address=address))
    (folder / "anchor.lua").write_text(f'clearTA(".")\naddTA(".", "{anchor.split(" DS ")[1]}")\n')
    return "pdns_recursor", f"--config-dir={folder}", "--daemon=no"


_PREPARE = {"BIND": _bind, "Knot": _kresd, "PowerDNS": _recursor}
_PACKAGES = {"unbound": "unbound", "BIND": "bind9", "Knot": "knot-resolver", "PowerDNS": "pdns-recursor"}
"""Debian's."""
RESOLVERS = (
    Resolver("unbound"),
    Resolver("unbound, strict", (("qname-minimisation-strict", "yes"), ("harden-referral-path", "yes"))),
    Resolver("unbound, like Let's Encrypt's", tuple(_LETS_ENCRYPT.items())),
    Resolver("BIND"),
    Resolver("Knot Resolver"),
    Resolver("PowerDNS Recursor"),
)


def _listens(host: Host, address: str) -> bool:
    return f"{address}:53 " in host.run("ss", "-ltnH")
