"""What this process may do."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import environment

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # include/uapi/linux/capability.h
_NS_GET_USERNS = 0xB701  # include/uapi/linux/nsfs.h


def missing_capabilities() -> list[str]:
    """Return the names of the capabilities that this process needs and does not have in effect."""
    effective = _effective_capabilities()
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def require_linux() -> None:
    """Raise errors.Error where there can be no netfilter."""
    if environment.system() != "linux":
        raise errors.not_linux(environment.system())
    if environment.place() is errors.Place.WSL1:
        raise errors.wsl1()


def require_capabilities() -> None:
    """Raise one of the package's errors if a capability is missing, or counts for nothing here."""
    missing = " and ".join(missing_capabilities())
    if missing and os.geteuid() == 0:
        raise errors.root_confined(missing, environment.place())
    if missing:
        raise errors.not_privileged(missing)
    if not _capabilities_count():
        raise errors.foreign_network()


def _effective_capabilities() -> int:
    try:
        status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return -1 if os.geteuid() == 0 else 0


def _capabilities_count() -> bool:
    """Tell whether this process's user namespace owns its network namespace, itself or by one below.

    Otherwise its capabilities, whatever they are, count for nothing there (capabilities(7), user_namespaces(7)).
    """
    try:
        with Path("/proc/thread-self/ns/net").open("rb") as namespace:
            os.close(fcntl.ioctl(namespace, _NS_GET_USERNS))
    except OSError as error:
        return error.errno != errno.EPERM  # anything else says nothing of the owner
    return True


def refusal(kind: str, error: OSError) -> errors.Error | None:
    """Return what it means that a kind of socket is refused, or None if that is no matter of permission.

    EAFNOSUPPORT is the answer of systemd's RestrictAddressFamilies.
    """
    if error.errno not in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT):
        return None
    try:
        require_capabilities()
    except errors.Error as reason:
        return reason
    return errors.socket_refused(kind, os.strerror(error.errno))


def may_make_namespaces() -> bool:
    """Tell whether this process has CAP_SYS_ADMIN in effect, which making a network namespace takes."""
    cap_sys_admin = 21  # include/uapi/linux/capability.h
    return bool(_effective_capabilities() >> cap_sys_admin & 1)
