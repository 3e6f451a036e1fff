"""Certbot's files about a certificate, as it writes them, without a CA."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)
_KINDS = ("cert", "privkey", "chain", "fullchain")


@lru_cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(names: tuple[str, ...], begin: datetime, end: datetime) -> bytes:
    """Return a certificate that signs itself, as PEM."""
    subject = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(_key().public_key())
    builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(end)
    alternatives = x509.SubjectAlternativeName(list(map(_general_name, names)))
    signed = builder.add_extension(alternatives, critical=False).sign(_key(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write(
    folder: Path, name: str, pem: bytes, options: str = "authenticator = standalone-nfq", above: str = ""
) -> Path:
    """Write the files of one certificate below Certbot's folder, and return its renewal file."""
    live, archive = folder / "live" / name, folder / "archive" / name
    for each in (live, archive, folder / "renewal"):
        each.mkdir(parents=True, exist_ok=True)
    for kind in _KINDS:
        (archive / f"{kind}1.pem").write_bytes(pem)
        (live / f"{kind}.pem").symlink_to(f"../../archive/{name}/{kind}1.pem")
    paths = "".join(f"{kind} = {live}/{kind}.pem\n" for kind in _KINDS)
    file = folder / "renewal" / f"{name}.conf"
    file.write_text(f"{above}version = 5.8.0\narchive_dir = {archive}\n{paths}[renewalparams]\n{options}\n")
    return file
