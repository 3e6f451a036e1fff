"""IP addresses: as text, with or without a zone (RFC 4007, 11), and packed as packets carry them."""

from __future__ import annotations

import functools
import ipaddress

VERSIONS = (4, 6)


def is_address(text: str) -> bool:
    """Whether a text is an IP address, of whichever version."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def version_of(address: str) -> int:
    """Return the IP version of an address, 4 or 6."""
    return 6 if ":" in address else 4


@functools.lru_cache(maxsize=4096)
def packed(address: str) -> bytes:
    """Return an address as packets carry it: 4 or 16 bytes in network byte order. Raises ValueError."""
    return ipaddress.ip_address(address).packed


@functools.lru_cache(maxsize=4096)
def unpacked(address: bytes) -> str:
    """Return the text of an address that a packet carries. Raises ValueError."""
    return str(ipaddress.ip_address(address))
