"""A DNS of one's own, from its root on: zones, signed or not, on NSD, and a resolver, unbound, that validates."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import run, running, wait_until

_SOA = "@ 60 IN SOA {primary} hostmaster.{primary} 1 3600 600 86400 60\n"
_NSD = """\
server:
    ip-address: {addresses}
    username: ""
    chroot: ""
    zonesdir: {folder}
    database: ""
    pidfile: {folder}/nsd.pid
    xfrdfile: {folder}/xfrd.state
    zonelistfile: {folder}/zone.list
    xfrdir: {folder}
    logfile: {folder}/nsd.log
    server-count: 1
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""
_UNBOUND = """\
server:
    interface: {address}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    username: ""
    chroot: ""
    directory: {folder}
    pidfile: {folder}/unbound.pid
    logfile: {folder}/unbound.log
    use-syslog: no
    root-hints: {folder}/root.hints
    do-not-query-localhost: no
    outbound-msg-retry: 3
    module-config: "{modules} iterator"
    {more}
remote-control:
    control-enable: no
"""


@dataclass(frozen=True)
class ZoneFile:
    """A zone as its name server has it, and the DS record that is for the zone above."""

    name: str
    text: str
    ds: str = ""


def zone(name: str, records: str, primary: str = "ns") -> ZoneFile:
    """Make a zone, given all its records but the SOA; names in it are relative to the zone."""
    return ZoneFile(name, f"$ORIGIN {name}.\n".replace("..", ".") + _SOA.format(primary=primary) + records)


def signed(made: ZoneFile, folder: Path) -> ZoneFile:
    """Sign a zone with a key of its own, by BIND's tools."""
    folder.mkdir(parents=True)
    (folder / "zone").write_text(made.text)
    origin = f"{made.name}." if made.name != "." else "."
    keygen = ("dnssec-keygen", "-q", "-K", str(folder), "-a", "ECDSAP256SHA256", "-f", "KSK", origin)
    key = folder / f"{run(keygen).strip()}.key"
    sign = ("dnssec-signzone", "-q", "-z", "-S", "-K", str(folder), "-d", str(folder), "-O", "full", "-x")
    run([*sign, "-o", origin, "-f", str(folder / "signed"), str(folder / "zone")])
    ds = run(["dnssec-dsfromkey", "-2", str(key)]).strip()
    return ZoneFile(made.name, (folder / "signed").read_text(), ds)


@contextlib.contextmanager
def nsd(host: Host, folder: Path, address: str, *zones: ZoneFile) -> Iterator[subprocess.Popen[str]]:
    """Run NSD on a host, at one or several addresses, with these zones."""
    folder.mkdir(parents=True)
    addresses = address.split()
    configuration = _NSD.format(addresses="\n    ip-address: ".join(addresses), folder=folder)
    for number, each in enumerate(zones):
        (folder / f"zone{number}").write_text(each.text)
        configuration += f"zone:\n    name: {each.name}\n    zonefile: zone{number}\n"
    (folder / "nsd.conf").write_text(configuration)
    with running(host.command("nsd", "-d", "-c", str(folder / "nsd.conf"))) as process:
        wait_until(functools.partial(_listens, host, addresses[0]), f"NSD listens: {folder}")
        yield process


@contextlib.contextmanager
def unbound(
    host: Host, folder: Path, address: str, root: str, anchor: str = "", more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a resolver on a host, given the root's address, and a DS record that it trusts, if it is to validate."""
    folder.mkdir(parents=True)
    (folder / "root.hints").write_text(f". 60 IN NS ns.root.\nns.root. 60 IN A {root}\n")
    options = dict(more or {})
    if anchor:
        options["trust-anchor"] = f'"{anchor}"'
    text = _UNBOUND.format(
        address=address,
        folder=folder,
        modules="validator" if anchor else "",
        more="\n    ".join(f"{option}: {value}" for option, value in options.items()),
    )
    (folder / "unbound.conf").write_text(text)
    with running(host.command("unbound", "-d", "-c", str(folder / "unbound.conf"))) as process:
        wait_until(functools.partial(_listens, host, address), f"unbound listens: {folder}")
        yield process


def _listens(host: Host, address: str) -> bool:
    shown = f"[{address}]:53 " if ":" in address else f"{address}:53 "
    return shown in host.run("ss", "-ltnH")
