"""The PROXY protocol: what a load balancer in TCP mode sends ahead of a connection's own bytes.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, versions 1 (2.1) and 2 (2.2). Who a connection comes from
according to it makes no difference here: a challenge is recognised by what is asked for.
"""

from __future__ import annotations

TEXT_BEGINNING = b"PROXY "
BINARY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_SHORTEST_TEXT, _LONGEST_TEXT = len(b"PROXY UNKNOWN\r\n"), 107
_BINARY_FIXED = 16
_LONGEST_BINARY = 4096
"""Bytes of a binary header that we wait for; real ones have some dozens, and a few hundred with all extensions."""


def without_header(received: bytes) -> bytes:
    """Return what follows a header, if there is one: nothing, while it is not whole.

    What only looks like a header is returned as it is. So is the first piece of a header that ends before it shows what
    it is: no proxy sends that, as the header must go out at once (2.1 and 2.2).
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
