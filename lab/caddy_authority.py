"""Caddy's certificate authority, of which PyPI has a current build: smallstep's validator on a current Go."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from lab.dns import Dns, command, resolving
from lab.hosts import Host
from lab.processes import running, wait_until
from lab.tls import write_certificate

CADDY = Path(sys.executable).with_name("caddy")
_PORT, _MANAGEMENT = 9443, 8057

_CONFIGURATION = """\
{{
	admin off
	auto_https disable_redirects
	skip_install_trust
	storage file_system {folder}/storage
}}
https://{address}:{port} {{
	tls {certificate} {key}
	acme_server {{
		challenges http-01 tls-alpn-01
	}}
}}
"""


@dataclass
class CaddyAuthority:
    """A running authority."""

    host: Host
    certificate: Path
    log: Path

    @property
    def directory(self) -> str:
        """The URL that clients begin at."""
        return f"https://{self.host.ipv4}:{_PORT}/acme/local/directory"

    def resolve(self, name: str, *addresses: str) -> None:
        """Let a name have these addresses, and no others."""
        Dns(self.host, self.host.ipv4, _MANAGEMENT).address(name, *addresses)


@contextlib.contextmanager
def caddy_authority(host: Host, folder: Path) -> Iterator[CaddyAuthority]:
    """Run an authority on a host; it validates at the ports that RFCs say."""
    folder.mkdir()
    address = x509.IPAddress(ipaddress.ip_address(host.ipv4))
    certificate, key = write_certificate(folder, "the laboratory's Caddy", address)
    values = {"folder": folder, "address": host.ipv4, "port": _PORT, "certificate": certificate, "key": key}
    configuration = folder / "Caddyfile"
    configuration.write_text(_CONFIGURATION.format(**values))
    dns = host.command(*command(host.ipv4, _MANAGEMENT, 53))
    server = host.command(str(CADDY), "run", "--adapter", "caddyfile", "--config", str(configuration))
    environment = {**os.environ, "HOME": str(folder)}
    log = folder / "caddy.log"
    with contextlib.ExitStack() as stack, log.open("w") as output:
        stack.enter_context(resolving(host, host.ipv4))
        for program in (dns, server):
            stack.enter_context(
                running(program, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
            )
        for port in (_MANAGEMENT, _PORT):
            wait_until(lambda port=port: host.listens(port), f"port {port} is open")  # type: ignore[misc]
        yield CaddyAuthority(host, certificate, log)
