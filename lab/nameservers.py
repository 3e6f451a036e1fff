"""Name servers of all kinds, each with one zone, as they serve it on a host's port 53."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import run, running, wait_until

ZONE = "example.com"
WWW = "203.0.113.80"
"""The address of `www` in the zone."""
_ZONE = """\
$ORIGIN {zone}.
$TTL 3600
@   SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 60
@   NS  ns.{zone}.
@   A   {ipv4}
@   AAAA {ipv6}
ns  A   {ipv4}
ns  AAAA {ipv6}
www A   203.0.113.80
"""
_NSD = """\
server:
    ip-address: 0.0.0.0@{port}
    ip-address: ::0@{port}
    username: ""
    chroot: ""
    database: ""
    zonesdir: "{folder}"
    pidfile: "{folder}/pid"
    zonelistfile: "{folder}/list"
    xfrdfile: "{folder}/xfrd"
    xfrdir: "{folder}"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: {zone}
    zonefile: zone
"""
_BIND = """\
options {
    directory "{folder}";
    pid-file "{folder}/pid";
    session-keyfile "{folder}/key";
    listen-on { any; };
    listen-on-v6 { any; };
    recursion no;
    dnssec-validation no;
};
controls { };
zone "{zone}" { type primary; file "zone"; };
"""
_KNOT = """\
server:
    rundir: {folder}
    pidfile: {folder}/pid
    listen: [0.0.0.0@53, "::@53"]
database:
    storage: {folder}/database
control:
    listen: {folder}/control
log:
  - target: stderr
    any: warning
zone:
  - domain: {zone}
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
"""
_POWERDNS = """\
launch=bind
bind-config={folder}/named.conf
local-address=0.0.0.0,::
socket-dir={folder}
daemon=no
guardian=no
security-poll-suffix=
"""
_POWERDNS_ZONES = 'zone "{zone}" { type master; file "{folder}/zone"; };\n'
_DNSMASQ = """\
pid-file={folder}/pid
user=root
no-resolv
no-hosts
cache-size=0
local=/{zone}/
host-record=www.{zone},203.0.113.80
host-record={zone},ns.{zone},{ipv4},{ipv6}
"""
_UNBOUND = """\
server:
    interface: 0.0.0.0
    interface: ::0
    interface-automatic: yes
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/pid"
    use-syslog: no
    logfile: ""
    do-daemonize: no
    num-threads: 1
    local-zone: "{zone}." static
    local-data: "{zone}. SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 60"
    local-data: "{zone}. NS ns.{zone}."
    local-data: "{zone}. A {ipv4}"
    local-data: "{zone}. AAAA {ipv6}"
    local-data: "ns.{zone}. A {ipv4}"
    local-data: "ns.{zone}. AAAA {ipv6}"
    local-data: "www.{zone}. A 203.0.113.80"
remote-control:
    control-enable: no
"""


_RESOLVED_PROGRAM = Path("/lib/systemd/systemd-resolved")
_RESOLVED = """\
[Resolve]
DNS=127.0.0.9
DNSStubListener=no
DNSStubListenerExtra={ipv4}
DNSStubListenerExtra={ipv6}
DNSStubListenerExtra=127.0.0.1
DNSStubListenerExtra=::1
LLMNR=no
MulticastDNS=no
DNSSEC=no
Cache=no
"""
_RESOLVED_HOSTS = """\
203.0.113.80 www.{zone}
{ipv4} {zone} ns.{zone}
{ipv6} {zone} ns.{zone}
"""
_RUN_RESOLVED = f"""
mount -t tmpfs none /run
mkdir -p /run/systemd/resolve /run/configuration
chown systemd-resolve:systemd-resolve /run/systemd/resolve
cp {{folder}}/resolved.conf /run/configuration
mount --bind /run/configuration /etc/systemd
mount --bind {{folder}}/hosts /etc/hosts
exec env SYSTEMD_LOG_LEVEL=err {_RESOLVED_PROGRAM}
"""
"""It finds its files at fixed places, and knows the zone from the hosts file.

It logs only errors, not how its upstream does.
"""


@dataclass(frozen=True)
class Kind:
    """A program, and the files that configure it."""

    name: str
    command: tuple[str, ...]
    files: dict[str, str]
    package: str
    """Debian's."""

    @property
    def version(self) -> str:
        """The version of the package that is installed."""
        return run(["dpkg-query", "-W", "-f", "${Version}", self.package])


KINDS = {
    kind.name: kind
    for kind in (
        Kind("nsd", ("nsd", "-d", "-c", "{folder}/nsd.conf"), {"nsd.conf": _NSD}, "nsd"),
        Kind("bind", ("named", "-g", "-n", "1", "-c", "{folder}/named.conf"), {"named.conf": _BIND}, "bind9"),
        Kind("knot", ("knotd", "-c", "{folder}/knot.conf"), {"knot.conf": _KNOT}, "knot"),
        Kind(
            "powerdns",
            ("pdns_server", "--config-dir={folder}"),
            {"pdns.conf": _POWERDNS, "named.conf": _POWERDNS_ZONES},
            "pdns-server",
        ),
        Kind("dnsmasq", ("dnsmasq", "-k", "-C", "{folder}/dnsmasq.conf"), {"dnsmasq.conf": _DNSMASQ}, "dnsmasq-base"),
        Kind("unbound", ("unbound", "-d", "-c", "{folder}/unbound.conf"), {"unbound.conf": _UNBOUND}, "unbound"),
        Kind(
            "systemd-resolved",
            ("unshare", "--mount", "sh", "-ec", _RUN_RESOLVED),
            {"resolved.conf": _RESOLVED, "hosts": _RESOLVED_HOSTS},
            "systemd-resolved",
        ),
    )
    # Its package changes how this machine looks up names, so nothing here installs it.
    if kind.name != "systemd-resolved" or _RESOLVED_PROGRAM.exists()
}


@dataclass
class NameServer:
    """A running one."""

    host: Host
    kind: Kind
    folder: Path
    process: int
    log: Path

    def files(self) -> dict[str, str]:
        """Return the hash of each file of its configuration, and of its zone."""
        return {
            name: hashlib.sha256((self.folder / name).read_bytes()).hexdigest() for name in ("zone", *self.kind.files)
        }


@contextlib.contextmanager
def name_server(host: Host, folder: Path, kind: str = "nsd", port: int = 53) -> Iterator[NameServer]:
    """Run a name server on a host. NSD can be at another port."""
    known = KINDS[kind]
    folder.mkdir(parents=True)
    (folder / "database").mkdir()

    def fill(text: str) -> str:
        values = {"folder": folder, "zone": ZONE, "ipv4": host.ipv4, "ipv6": host.ipv6, "port": port}
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    for name, content in {"zone": _ZONE, **known.files}.items():
        (folder / name).write_text(fill(content))
    log = folder / "log"
    command = host.command(*map(fill, known.command))
    with log.open("w") as output, running(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
        for address in ("127.0.0.1", "::1"):
            wait_until(functools.partial(_answers, host, address, port), f"{kind} answers at {address}")
        yield NameServer(host, known, folder, process.pid, log)


def _answers(host: Host, address: str, port: int) -> bool:
    try:
        return WWW in host.run("dig", "+short", "+tries=1", "+time=1", f"@{address}", "-p", str(port), f"www.{ZONE}")
    except RuntimeError:
        return False
