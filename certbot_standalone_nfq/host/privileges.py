"""What this user and this machine can do, found out without changing anything but by loading modules."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import environment
from certbot_standalone_nfq.host.command import find_program, run

logger = logging.getLogger(__name__)

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # include/uapi/linux/capability.h
_NS_GET_USERNS = 0xB701  # include/uapi/linux/nsfs.h
_MODPROBE_SECONDS = 10.0


@dataclass(frozen=True)
class Feature:
    """Something a kernel may lack: in words, its module and the kernel option that builds it."""

    name: str
    module: str
    option: str


QUEUE = Feature("packet queue for user space", "nfnetlink_queue", "CONFIG_NETFILTER_NETLINK_QUEUE")


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


def lack(feature: Feature) -> errors.KernelSupportMissing:
    """Return the error for a feature that this kernel lacks."""
    return errors.KernelSupportMissing(feature.name, feature.module, feature.option, environment.place())


def has_ipv6() -> bool:
    """Tell whether any interface of this network namespace has an IPv6 address."""
    try:
        return bool(Path("/proc/thread-self/net/if_inet6").read_text(encoding="ascii"))
    except OSError:
        return False


def bound_queues() -> set[int] | None:
    """Return the numbers of the packet queues that have a listener, or None if the kernel does not say."""
    try:
        table = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text(encoding="ascii")
    except OSError:
        return None
    return {int(line.split()[0]) for line in table.splitlines() if line.strip()}


def waiting_packets() -> int:
    """Return how many packets wait for a verdict, in all packet queues of this network namespace."""
    try:
        table = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[2]) for line in table.splitlines() if line.strip())


def load_modules(*modules: str) -> None:
    """Try to load kernel modules. It is no error if that fails: what is missing then shows where it is used."""
    modprobe = find_program("modprobe")
    if not modprobe:
        return
    for module in modules:
        result = run([modprobe, "--quiet", module], seconds=_MODPROBE_SECONDS)
        logger.debug("modprobe %s: %s", module, result.complaint or "succeeded")


def may_make_namespaces() -> bool:
    """Tell whether this process has CAP_SYS_ADMIN in effect, which making a network namespace takes."""
    cap_sys_admin = 21  # include/uapi/linux/capability.h
    return bool(_effective_capabilities() >> cap_sys_admin & 1)


def has_queues() -> bool:
    """Tell whether the kernel has packet queues by now: before their module is loaded, nobody listens to one."""
    return Path("/proc/thread-self/net/netfilter/nfnetlink_queue").exists()
