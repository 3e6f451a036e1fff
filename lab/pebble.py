"""A real certificate authority, Pebble, and the DNS it believes in, pebble-challtestsrv."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.dns import Dns, command
from lab.hosts import Host
from lab.processes import running, wait_until

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
def pebble(host: Host, folder: Path, http_port: int = 80) -> Iterator[Pebble]:
    """Run an authority on a host; it validates at the given port."""
    folder.mkdir()
    certificate, key = _server_certificate(host, folder)
    configuration = {
        "listenAddress": f"{host.ipv4}:14000",
        "managementListenAddress": f"{host.ipv4}:15000",
        "certificate": str(certificate),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    dns = host.command(*command(host.ipv4, _MANAGEMENT, 8053, 53))
    authority = host.command("pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"{host.ipv4}:8053")
    log = folder / "pebble.log"
    with contextlib.ExitStack() as stack, log.open("w") as output:
        for program in (dns, authority):
            stack.enter_context(
                running(program, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | _ENVIRONMENT)
            )
        for port in (8053, _MANAGEMENT, 14000):
            wait_until(functools.partial(host.listens, port), f"port {port} is open")
        yield Pebble(host, certificate, log)


def _server_certificate(host: Host, folder: Path) -> tuple[Path, Path]:
    """Write a certificate and key for the authority's own HTTPS; the certificate is its own root."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the laboratory's Pebble")])
    today = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host.ipv4))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
