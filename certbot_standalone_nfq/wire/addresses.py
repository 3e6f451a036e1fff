"""IP addresses as text, with or without a zone (RFC 4007, 11)."""

from __future__ import annotations

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
