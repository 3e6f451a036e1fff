"""A TLS context for one certificate. This reads the clock, and hands the certificate to OpenSSL in a file in memory."""

from __future__ import annotations

import datetime
import os
import ssl

PROTOCOL = "acme-tls/1"
"""The one that the CA asks for, and that nobody else does: RFC 8737, 6.2."""


def context(subject: str, key_authorization: str) -> ssl.SSLContext:
    """Return what answers a challenge for a name or address. Raises ValueError if it is neither, or OSError."""
    # Not loaded before it is needed: cryptography takes megabytes that http-01 and `answer` do without.
    from certbot_standalone_nfq.challenges.tls_alpn01.certificate import certificate

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8737, 3
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    made.num_tickets = 0  # nobody comes back, and what is sent after the handshake may meet a closed socket
    made.set_alpn_protocols([PROTOCOL])
    _load(made, certificate(subject, key_authorization, datetime.datetime.now(datetime.timezone.utc)))
    return made


def _load(into: ssl.SSLContext, pem: bytes) -> None:
    """Have a context use a certificate and its key: ssl reads them from files alone."""
    file = os.memfd_create("certbot-standalone-nfq", os.MFD_CLOEXEC)
    try:
        os.write(file, pem)
        into.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
