"""Addresses: which are this machine's, and which a name has, as seen from here."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
"""RFC 1918, RFC 6598, RFC 4193."""
_ANYWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation (RFC 5737, RFC 3849): what goes there takes the default route."""


def is_own(address: str) -> bool:
    """Tell whether an address is one of this machine's; if the kernel does not say, that it is not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        # A link-local address needs its link to be bound, and is nobody else's.
        return error.errno == errno.EINVAL and ipaddress.ip_address(address).is_link_local
    return True


def is_translated(version: int) -> bool:
    """Tell whether what leaves this machine by its default route leaves from a private address."""
    family, target = (socket.AF_INET6, _ANYWHERE[1]) if version == 6 else (socket.AF_INET, _ANYWHERE[0])
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))  # sends nothing
            source = ipaddress.ip_address(probe.getsockname()[0])
    except OSError:
        return False
    return any(source in network for network in _PRIVATE if network.version == source.version)


def look_up(names: list[str], seconds: float) -> dict[str, tuple[str, ...]]:
    """Return the addresses of each name that could be looked up in this time; an address is its own."""
    found: dict[str, tuple[str, ...]] = {}
    threads = [threading.Thread(target=_look_up, args=(name, found), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds / len(threads))
    return dict(found)


def _look_up(name: str, found: dict[str, tuple[str, ...]]) -> None:
    addresses: list[str] = []
    for family in (socket.AF_INET6, socket.AF_INET):
        try:
            answers = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        addresses += [str(answer[4][0]).partition("%")[0] for answer in answers]
    found[name] = tuple(dict.fromkeys(addresses))
