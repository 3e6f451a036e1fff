"""A TLS client, over memory and over sockets, that asks for a name by a protocol as validators and visitors do."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certbot_standalone_nfq.challenges.tls_alpn01.certificate import ACME_IDENTIFIER
from lab.hosts import Host

ACME = ("acme-tls/1",)
VISITOR = ("h2", "http/1.1")
MANY = (*VISITOR, *(f"x-{number:03}" * 20 for number in range(16)))
"""Protocols that make a ClientHello as large as a browser's with post-quantum keys: two segments."""
HELLOS = Path(__file__).parent / "client_hellos"
"""Real ones, as Go's crypto/tls of several versions sends them for this challenge."""


def client_context(
    protocols: Sequence[str] = ACME, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
) -> ssl.SSLContext:
    """Return what connects without a look at certificates."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = newest
    made.set_alpn_protocols(list(protocols))
    return made


class TlsClient:
    """A client whose bytes go from hand to hand."""

    def __init__(self, name: str, context: ssl.SSLContext | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = (context or client_context()).wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.finished = False

    def hear(self, data: bytes = b"") -> bytes:
        """Take what the server says; return what to say. Raises ssl.SSLError."""
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
            self.finished = True
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def write(self, data: bytes) -> bytes:
        """Return what carries data to the server, once the handshake is finished."""
        self._tls.write(data)
        return self._outgoing.read()

    def bye(self) -> bytes:
        """Return what says that nothing more will be said."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()

    @property
    def certificate(self) -> bytes:
        """What the server has shown, in DER."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def protocol(self) -> str | None:
        """What the server has chosen."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """The version of TLS."""
        return self._tls.version()


def client_hello(name: str, protocols: Sequence[str] = ACME) -> bytes:
    """Return how a client begins."""
    return TlsClient(name, client_context(protocols)).hear()


def shake_hands(connection: socket.socket, name: str, context: ssl.SSLContext | None = None) -> bytes:
    """Shake hands over a connection, and say goodbye; return the certificate that was shown, in DER. Raises OSError."""
    with (context or client_context()).wrap_socket(connection, server_hostname=name) as tls:
        shown = tls.getpeercert(binary_form=True) or b""
        with contextlib.suppress(OSError):  # the other side may just close
            tls.unwrap()
    return shown


def certificate_at(client: Host, address: str, name: str, protocols: Sequence[str] = ACME, port: int = 443) -> bytes:
    """Return the certificate that is shown to a client, in DER. Raises OSError."""
    return shake_hands(client.connect(address, port), name, client_context(protocols))


def proof(shown: bytes) -> bytes:
    """Return what a certificate in DER proves of a challenge, or nothing."""
    found = (extension.value for extension in x509.load_der_x509_certificate(shown).extensions)
    return next((each.value for each in found if each.oid == ACME_IDENTIFIER), b"")


def write_certificate(folder: Path, owner: str, *names: x509.GeneralName) -> tuple[Path, Path]:
    """Write a server's certificate, which is its own root, and its key to a folder; return their files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
    today = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def listen(folder: Path, *ports: int, how: str = "ssl http2") -> str:
    """Return what has nginx listen, with a certificate of its own that is put into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = write_certificate(folder, "the web server", x509.DNSName("example.com"))
    sockets = " ".join(f"listen {port} {how}; listen [::]:{port} {how};" for port in ports or (443,))
    return f"{sockets} ssl_certificate {certificate}; ssl_certificate_key {key};"
