"""The certificate that answers a challenge (RFC 8737, 3), for a name or an address (RFC 8738)."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# acme's own certificates have the identifier of a draft, which CAs refuse.
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_OCTET_STRING = 4
_DAYS = 7


def certificate(subject: str, key_authorization: str, now: datetime.datetime) -> bytes:
    """Return a certificate and its key, as PEM, for a name or address. Raises ValueError if it is neither."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Subject and issuer are the same.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    around = datetime.timedelta(days=_DAYS)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - around, now + around)
        .add_extension(x509.SubjectAlternativeName([_general_name(subject)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, identifier(key_authorization)), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def identifier(key_authorization: str) -> bytes:
    """Return the value of the extension that proves control: its digest, in DER."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return bytes([_OCTET_STRING, len(digest)]) + digest


def _general_name(subject: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(subject))
    except ValueError:
        return x509.DNSName(subject)
