"""A real certificate authority, Pebble, and the DNS it believes in, pebble-challtestsrv."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cryptography import x509

from lab.dns import Dns, command
from lab.hosts import Host
from lab.processes import running, wait_until
from lab.tls import write_certificate

_ENVIRONMENT = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
_MANAGEMENT = 8055


@dataclass
class Pebble:
    """A running authority."""

    host: Host
    certificate: Path
    log: Path

    @property
    def directory(self) -> str:
        """The URL that clients begin at."""
        return f"https://{self.host.ipv4}:14000/dir"

    def resolve(self, name: str, *addresses: str, ipv4: str = "", ipv6: str = "") -> None:
        """Let a name have these addresses, and no others."""
        Dns(self.host, self.host.ipv4, _MANAGEMENT).address(name, *addresses, *filter(None, (ipv4, ipv6)))


@contextlib.contextmanager
def pebble(
    host: Host,
    folder: Path,
    http_port: int = 80,
    resolver: str = "",
    program: str = "pebble",
    profiles: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Pebble]:
    """Run an authority on a host; it validates at the given port, by a DNS of its own or by a resolver that runs.

    Profiles are names with the seconds that a certificate is valid; Pebble has them from 2.7 on.
    """
    folder.mkdir()
    address = x509.IPAddress(ipaddress.ip_address(host.ipv4))
    certificate, key = write_certificate(folder, "the laboratory's Pebble", address)
    configuration = {
        "listenAddress": f"{host.ipv4}:14000",
        "managementListenAddress": f"{host.ipv4}:15000",
        "certificate": str(certificate),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "profiles": {name: {"description": name, "validityPeriod": seconds} for name, seconds in profiles.items()},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    own = [] if resolver else [host.command(*command(host.ipv4, _MANAGEMENT, 8053, 53))]
    asked = resolver or f"{host.ipv4}:8053"
    authority = host.command(program, "-config", str(folder / "pebble.json"), "-dnsserver", asked)
    log = folder / "pebble.log"
    with contextlib.ExitStack() as stack, log.open("w") as output:
        for command_ in (*own, authority):
            stack.enter_context(
                running(command_, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | _ENVIRONMENT)
            )
        for port in (*((8053, _MANAGEMENT) if own else ()), 14000):
            wait_until(functools.partial(host.listens, port), f"port {port} is open")
        yield Pebble(host, certificate, log)
