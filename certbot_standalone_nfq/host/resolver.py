"""The addresses of names, and whether these are this machine's."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.wire.addresses import version_of

_NONLOCAL_BIND = {4: "ipv4", 6: "ipv6"}
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
"""RFC 1918, RFC 6598, RFC 4193."""
_ANYWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation (RFC 5737, RFC 3849): packets to them take the default route."""


def addresses_of(name: str) -> list[str]:
    """Return a name's addresses, of both IP versions, by the system's resolver.

    Raises socket.gaierror, and UnicodeError for what cannot be a name. There is no time limit but the resolver's own.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_local(address: str) -> bool | None:
    """Whether an address is this machine's, or None if that cannot be determined.

    A socket can be bound to local addresses only, unless the administrator allows any (ip_nonlocal_bind).
    """
    version = version_of(address)
    if _any_can_be_bound(version):
        return None
    try:
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return False if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) else None
    return True


def _any_can_be_bound(version: int) -> bool:
    setting = Path(f"/proc/sys/net/{_NONLOCAL_BIND[version]}/ip_nonlocal_bind")
    try:
        return setting.read_text(encoding="ascii").strip() != "0"
    except OSError:
        return False


def is_translated(version: int) -> bool:
    """Whether packets leave by the default route from a private address."""
    family, target = (socket.AF_INET6, _ANYWHERE[1]) if version == 6 else (socket.AF_INET, _ANYWHERE[0])
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))  # sends nothing
            return is_private(probe.getsockname()[0])
    except OSError:
        return False


def is_private(address: str) -> bool:
    """Whether an address means nothing to the rest of the internet."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _PRIVATE if network.version == parsed.version)


def look_up(names: Sequence[str], deadline: Deadline) -> dict[str, tuple[str, ...]]:
    """Return the addresses of each name that could be looked up in time."""
    found: dict[str, tuple[str, ...]] = {}
    threads = [threading.Thread(target=_look_up, args=(name, found), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline.remaining())
    return dict(found)


def _look_up(name: str, found: dict[str, tuple[str, ...]]) -> None:
    with contextlib.suppress(OSError, UnicodeError):
        found[name] = tuple(address.partition("%")[0] for address in addresses_of(name))
