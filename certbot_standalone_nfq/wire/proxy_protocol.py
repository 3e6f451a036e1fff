"""The PROXY protocol: what a load balancer in TCP mode sends ahead of a connection's own octets.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, versions 1 (2.1) and 2 (2.2). Who a connection comes from
according to it makes no difference here: a challenge is told by its token.
"""

from __future__ import annotations

TEXT_BEGINNING = b"PROXY "
BINARY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_SHORTEST_TEXT, _LONGEST_TEXT = len(b"PROXY UNKNOWN\r\n"), 107
_BINARY_FIXED = 16
_LONGEST_BINARY = 4096
"""Octets of a binary header that we wait for; real ones have some dozens, and a few hundred with all extensions."""


def without_header(received: bytes) -> bytes:
    """Return what follows a header, if octets begin with one: nothing, while it is not whole.

    What only looks like a header is returned as it is; so is the first piece of one that is cut before it shows what it
    is, as no proxy does (2.1 and 2.2 have it sent at once).
    """
    if received.startswith(TEXT_BEGINNING):
        end = received.find(b"\r\n", _SHORTEST_TEXT - 2, _LONGEST_TEXT)
        if end >= 0:
            return received[end + 2 :]
        return b"" if len(received) < _LONGEST_TEXT else received
    if received.startswith(BINARY_SIGNATURE):
        length = _BINARY_FIXED + int.from_bytes(received[14:_BINARY_FIXED], "big")
        return received[length:] if length <= _LONGEST_BINARY else received
    return received
