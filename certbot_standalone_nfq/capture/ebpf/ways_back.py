"""How answers leave: as the SYN-ACK of their connection did, on the same interface to the same link address.

So they take the way that the server's packets take, whatever leads them there: a second uplink's rules, marks, or a
router that is not the one that the requests come by (direct server return). They pass neither the routing nor the
firewall, in which the connection has ended with its reset.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from typing import NamedTuple

from certbot_standalone_nfq.capture.ebpf.records import TakenPacket

_LOOPBACK = 1  # LOOPBACK_IFINDEX, include/net/flow.h
_ADDRESS_BYTES = 6
_PROTOCOLS = {4: 0x0800, 6: 0x86DD}  # include/uapi/linux/if_ether.h


class _Link(NamedTuple):
    interface: int
    header: bytes
    """Empty on interfaces whose packets have none, or one that the kernel writes."""


class WayBack:
    """The way of one connection's answers."""

    def __init__(self, sockets: _Sockets, link: _Link, *, is_the_way_here: bool) -> None:
        self._sockets = sockets
        self._link = link
        self._is_the_way_here = is_the_way_here

    def send(self, packet: bytes) -> None:
        """Send an answer, from its IP header on. Raises OSError."""
        self._sockets.send(packet, self._link)

    def follow(self, packet: TakenPacket) -> None:
        """Take it that the peer's router has the link address that a later packet came from."""
        if self._is_the_way_here and packet.interface == self._link.interface:
            self._link = _Link(packet.interface, _turned(packet.link_header))


class WaysBack:
    """The ways of all connections, until `close`."""

    def __init__(self) -> None:
        """Open the sockets. Raises OSError."""
        self._sockets = _Sockets()
        self._known: weakref.WeakValueDictionary[bytes, WayBack] = weakref.WeakValueDictionary()

    def of(self, packet: TakenPacket) -> WayBack | None:
        """Return the way of a packet's connection, or None if it does not leave this machine. Raises OSError."""
        arrived = _Link(packet.interface, _turned(packet.link_header))
        left = _Link(packet.left_by, packet.left_behind) if packet.left_by else arrived
        if _LOOPBACK in (left.interface, arrived.interface):
            return None
        way = self._known[packet.connection] = WayBack(self._sockets, left, is_the_way_here=_agree(left, arrived))
        return way

    def follow(self, packet: TakenPacket) -> None:
        """Notice where a later packet came from."""
        way = self._known.get(packet.connection)
        if way:
            way.follow(packet)

    def close(self) -> None:
        """Close the sockets."""
        self._sockets.close()


def _turned(header: bytes) -> bytes:
    """Return an Ethernet header with its addresses exchanged; nothing of another link's, which the kernel writes."""
    if len(header) != 2 * _ADDRESS_BYTES + 2:
        return b""
    return header[_ADDRESS_BYTES : 2 * _ADDRESS_BYTES] + header[:_ADDRESS_BYTES] + header[2 * _ADDRESS_BYTES :]


def _agree(left: _Link, arrived: _Link) -> bool:
    """Whether answers go to where requests come from."""
    return left.interface == arrived.interface and left.header[:_ADDRESS_BYTES] == arrived.header[:_ADDRESS_BYTES]


class _Sockets:
    """Packet sockets, which receive nothing."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as undo:
            self._frames = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self._packets = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
            self._opened = undo.pop_all()

    def send(self, packet: bytes, link: _Link) -> None:
        to = (socket.if_indextoname(link.interface), _PROTOCOLS[packet[0] >> 4])
        if link.header:
            self._frames.sendto(link.header + packet, to)
        else:
            self._packets.sendto(packet, to)

    def close(self) -> None:
        self._opened.close()
