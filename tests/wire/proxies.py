"""Headers of the PROXY protocol, as load balancers send them."""

from __future__ import annotations

import socket

from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE


def _binary(command_and_family: bytes, content: bytes) -> bytes:
    return BINARY_SIGNATURE + command_and_family + len(content).to_bytes(2, "big") + content


_PORTS = (51000).to_bytes(2, "big") + (80).to_bytes(2, "big")
_IPV4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.2") + _PORTS
_IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8:7::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2") + _PORTS
_CHECKSUM = b"\x03\x00\x04abcd"
_NOTHING = b"\x04\x01\x00" + bytes(256)

PROXY_HEADERS = {
    "text-ipv4": b"PROXY TCP4 203.0.113.7 198.51.100.2 51000 80\r\n",
    "text-ipv6": b"PROXY TCP6 2001:db8:7::1 2001:db8::2 51000 80\r\n",
    "text-unknown": b"PROXY UNKNOWN\r\n",
    "text-longest": b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
    "binary-ipv4": _binary(b"\x21\x11", _IPV4),
    "binary-ipv6": _binary(b"\x21\x21", _IPV6),
    "binary-local": _binary(b"\x20\x00", b""),
    "binary-extensions": _binary(b"\x21\x11", _IPV4 + _CHECKSUM + _NOTHING),
}
