"""A TLS client, over memory and over sockets, that asks for a name by a protocol as validators and visitors do."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

from lab.hosts import Host

ACME = ("acme-tls/1",)
VISITOR = ("h2", "http/1.1")
MANY = tuple(f"x-{number:03}" * 20 for number in range(16))
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


def certificate_at(client: Host, address: str, name: str, port: int = 443, protocols: Sequence[str] = ACME) -> bytes:
    """Return the certificate that is shown at an address, in DER. Raises OSError."""
    with (
        client.connect(address, port) as connection,
        client_context(protocols).wrap_socket(connection, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""
