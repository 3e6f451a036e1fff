"""This machine's own addresses, as the kernel lists them for this network namespace."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from pathlib import Path

_NET = Path("/proc/thread-self/net")
_LOCAL_IPV4 = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")


def own_addresses(version: int) -> list[str]:
    """Return the addresses of an IP version that other machines may reach this one by; none if /proc is not there.

    Loopback and link-local addresses are left out: no CA connects to them.
    """
    with contextlib.suppress(OSError):
        return _ipv6() if version == 6 else _ipv4()
    return []


def has_ipv6() -> bool:
    """Whether any interface of this network namespace has an IPv6 address."""
    try:
        return bool((_NET / "if_inet6").read_text(encoding="ascii"))
    except OSError:
        return False


def _ipv4() -> list[str]:
    listed = _LOCAL_IPV4.findall((_NET / "fib_trie").read_text(encoding="ascii"))
    return [address for address in dict.fromkeys(listed) if not ipaddress.ip_address(address).is_loopback]


def _ipv6() -> list[str]:
    numbers = [line.split()[0] for line in (_NET / "if_inet6").read_text(encoding="ascii").splitlines()]
    addresses = [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(number)) for number in numbers]
    return [
        address
        for address in dict.fromkeys(addresses)
        if address != "::1" and ipaddress.ip_address(address) not in _LINK_LOCAL
    ]
