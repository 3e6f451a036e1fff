"""What addresses names have, and whether these are this machine's."""

from __future__ import annotations

import errno
import ipaddress
import socket
from pathlib import Path

_NONLOCAL_BIND = {4: "ipv4", 6: "ipv6"}


def addresses_of(name: str) -> list[str]:
    """Return a name's addresses, of both families, by the system's resolver.

    Raises socket.gaierror, and UnicodeError for what cannot be a name. It may take as long as the resolver likes.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_local(address: str) -> bool | None:
    """Tell whether an address is this machine's, or None where that cannot be told.

    Only a local address can be bound to, unless the administrator allows any (ip_nonlocal_bind).
    """
    version = ipaddress.ip_address(address.partition("%")[0]).version
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
