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
    """Return the names of the capabilities that this process needs and that are not in effect."""
    effective = _effective_capabilities()
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def require_linux() -> None:
    """Raise errors.Error where there can be no netfilter."""
    if environment.system() != "linux":
        raise errors.not_linux(environment.system())
    if environment.place() is errors.Place.WSL1:
        raise errors.wsl1()


def require_capabilities() -> None:
    """Raise errors.NotPermitted if a capability is missing, or has no effect here."""
    missing = " and ".join(missing_capabilities())
    if missing and os.geteuid() == 0:
        raise errors.root_confined(missing, environment.place())
    if missing:
        raise errors.not_privileged(missing)
    if not _capabilities_count():
        raise errors.foreign_network()


def programs_lack_capabilities() -> bool:
    """Whether the programs that this process starts do not get the capabilities that it has (capabilities(7))."""
    ambient = _capabilities("CapAmb", 0)
    return os.geteuid() != 0 and any(not ambient >> bit & 1 for bit in _CAPABILITIES.values())


def _effective_capabilities() -> int:
    return _capabilities("CapEff", -1 if os.geteuid() == 0 else 0)


def _capabilities(kind: str, unknown: int) -> int:
    """Return the bits of one set of capabilities; a value of one's own if /proc does not show it."""
    try:
        status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == kind:
            return int(value, 16)
    return unknown


def _capabilities_count() -> bool:
    """Whether this process's user namespace owns its network namespace, directly or through a descendant.

    Otherwise no capability has an effect on the network (capabilities(7), user_namespaces(7)).
    """
    try:
        with Path("/proc/thread-self/ns/net").open("rb") as namespace:
            os.close(fcntl.ioctl(namespace, _NS_GET_USERNS))
    except OSError as error:
        return error.errno != errno.EPERM  # any other error says nothing about the owner
    return True


def refusal(kind: str, error: OSError) -> errors.Error | None:
    """Return the error that explains a socket's refusal, or None unless it is about permissions.

    systemd's RestrictAddressFamilies refuses with EAFNOSUPPORT.
    """
    if error.errno not in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT):
        return None
    try:
        require_capabilities()
    except errors.Error as reason:
        return reason
    return errors.socket_refused(kind, os.strerror(error.errno))


def may_make_namespaces() -> bool:
    """Whether CAP_SYS_ADMIN is in effect, which is required to make a network namespace."""
    cap_sys_admin = 21  # include/uapi/linux/capability.h
    return bool(_effective_capabilities() >> cap_sys_admin & 1)


def may_use_ebpf() -> bool:
    """Whether CAP_BPF is in effect, or CAP_SYS_ADMIN, which includes it: either is required to load programs."""
    cap_sys_admin, cap_bpf = 21, 39  # include/uapi/linux/capability.h
    return bool(_effective_capabilities() & (1 << cap_sys_admin | 1 << cap_bpf))
