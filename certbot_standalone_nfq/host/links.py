"""The network interfaces of this namespace, and what becomes of them: rtnetlink(7), include/uapi/linux/if_link.h."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass

from certbot_standalone_nfq.host import rtnetlink

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTNLGRP_LINK_MASK = 1 << 0
_NAME, _MASTER, _LINK_INFO = 3, 10, 18  # IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO
_KIND, _SLAVE_KIND = 1, 4  # IFLA_INFO_KIND, IFLA_INFO_SLAVE_KIND
_IFF_UP = 0x1
_MAX_DATAGRAM = 1 << 16

_LINK = struct.Struct("=BxHiI4x")
"""Of `struct ifinfomsg`: the family, the type of hardware, the index, the flags."""


@dataclass(frozen=True)
class Link:
    """A network interface."""

    index: int
    name: str
    hardware: int
    """ARPHRD_..., include/uapi/linux/if_arp.h."""
    up: bool
    kind: str
    """As in `ip link add ... type`; empty for most hardware."""
    port_of: str
    """The kind of what it is a port of, such as bridge; empty if it is none."""


def links() -> list[Link]:
    """Return all interfaces. Raises OSError."""
    return [_read(body) for kind, body in rtnetlink.dump(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0)) if kind == _RTM_NEWLINK]


def _read(body: bytes) -> Link:
    _, hardware, index, flags = _LINK.unpack_from(body)
    found = rtnetlink.attributes(body[_LINK.size :])
    info = rtnetlink.attributes(found.get(_LINK_INFO, b""))
    kind, port_of = (rtnetlink.text(info.get(each, b"")) for each in (_KIND, _SLAVE_KIND))
    return Link(index, rtnetlink.text(found.get(_NAME, b"")), hardware, bool(flags & _IFF_UP), kind, port_of)


class Changes:
    """Tells that interfaces have changed, from its making until `close`."""

    def __init__(self) -> None:
        """Begin. Raises OSError."""
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._kernel.setblocking(False)
            self._kernel.bind((0, _RTNLGRP_LINK_MASK))
        except BaseException:
            self._kernel.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable when something has changed."""
        return self._kernel.fileno()

    def gone(self) -> set[int]:
        """Take what is told, and return the indices of interfaces that left. An index may be in use again."""
        left: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                left.update(_leaving(self._receive()))
        return left

    def _receive(self) -> bytes:
        try:
            return self._kernel.recv(_MAX_DATAGRAM)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # some changes were not told
                raise
            return b""

    def close(self) -> None:
        """End."""
        self._kernel.close()


def _leaving(datagram: bytes) -> set[int]:
    """Return what left; a port that leaves its bridge is told likewise, for the family of bridges."""
    told = [_LINK.unpack_from(body) for kind, body in rtnetlink.messages(datagram) if kind == _RTM_DELLINK]
    return {index for family, _, index, _ in told if family == socket.AF_UNSPEC}
