"""The raw sockets that send forged segments.

The segment's source need not be an address of this machine: behind NAT it is the container's. So the route is
looked up from the source address (IP_PKTINFO with IP_TRANSPARENT, and the same for IPv6), as it would be for the real
server's packets, and in the routing domain (VRF) that the connection's packets come from. The segment goes through
the firewall's OUTPUT chains, where conntrack knows its connection.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct

from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.host.routes import Hop, Routes
from certbot_standalone_nfq.wire import tcp, udp
from certbot_standalone_nfq.wire.addresses import packed, version_of
from certbot_standalone_nfq.wire.tcp import Segment
from certbot_standalone_nfq.wire.udp import Datagram

# include/uapi/linux/in.h and in6.h; the socket module does not name all of them in every version.
_IP_PKTINFO = 8
_IP_TRANSPARENT = 19
_IPV6_PKTINFO = 50
_IPV6_TRANSPARENT = 75

_SIOCETHTOOL = 0x8946  # include/uapi/linux/sockios.h
_ETHTOOL_GDRVINFO = 3  # include/uapi/linux/ethtool.h
_DRIVER_INFO_BYTES = 196
_NAME_BYTES = 32


class Injector:
    """Sends segments as they are, headers included."""

    def __init__(self) -> None:
        """Open the sockets. Raises one of the package's errors."""
        with contextlib.ExitStack() as undo:
            kind = "raw"
            try:
                # IPPROTO_RAW implies that we write the IP header.
                self._ipv4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
                undo.callback(self._ipv4.close)
                self._ipv4.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
                self._ipv6 = _open_ipv6()
                if self._ipv6:
                    undo.callback(self._ipv6.close)
                kind = "netlink"
                self._routes = Routes()
                undo.callback(self._routes.close)
            except OSError as error:
                raise (privileges.refusal(kind, error) or error) from error
            self._opened = undo.pop_all()
        self._domains: dict[int, int] = {}
        self._marks: dict[int, int] = {}

    def send(self, segment: Segment | Datagram, mark: int = 0) -> bytes:
        """Send a segment or a datagram with a mark; return the packet that it is.

        Raises OSError: EPERM if the firewall forbids it, others if there is no route.
        """
        packet = udp.write(segment) if isinstance(segment, Datagram) else tcp.write(segment)
        source = packed(segment.source)
        domain = self._routing_domain(segment.interface)
        hop = None if domain else self._hop(segment, mark)
        # The kernel sends to the next hop what is addressed to it here, whatever the packet says (FLOWI_FLAG_KNOWN_NH).
        interface, via = (hop.interface, hop.gateway or segment.destination) if hop else (domain, segment.destination)
        if version_of(segment.source) == 4:
            self._set_mark(self._ipv4, mark)
            info = struct.pack("=I4s4x", interface, source)
            self._ipv4.sendmsg([packet], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, (via, 0))
        elif self._ipv6:
            self._set_mark(self._ipv6, mark)
            # An address of link scope means something only together with its link.
            scope = segment.interface if ipaddress.ip_address(segment.destination).is_link_local else 0
            scope = scope or (interface if ipaddress.ip_address(via).is_link_local else 0)
            info = struct.pack("=16sI", source, scope or interface)
            destination = (via, 0, 0, scope)
            self._ipv6.sendmsg([packet], [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)], 0, destination)
        return packet

    def _set_mark(self, raw: socket.socket, mark: int) -> None:
        if self._marks.get(raw.family, 0) != mark:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            self._marks[raw.family] = mark

    def _routing_domain(self, interface: int) -> int:
        """Return the interface if it is a VRF, which has routes of its own, else 0."""
        if interface not in self._domains:
            self._domains[interface] = interface if _driver(self._ipv4, interface) == "vrf" else 0
        return self._domains[interface]

    def close(self) -> None:
        """Close the sockets."""
        self._opened.close()

    def _hop(self, segment: Segment | Datagram, mark: int) -> Hop | None:
        """Return where a segment of this machine's goes next, or None if a raw socket sends it there without ports."""
        if ipaddress.ip_address(segment.destination).is_link_local:
            return None
        try:
            return self._routes.by_ports(
                socket.IPPROTO_UDP if isinstance(segment, Datagram) else socket.IPPROTO_TCP,
                (segment.source, segment.source_port),
                (segment.destination, segment.destination_port),
                mark,
            )
        except OSError:
            return None


def _driver(any_socket: socket.socket, interface: int) -> str:
    """Return the name of an interface's driver, or nothing if the kernel does not name one."""
    answer = array.array("B", struct.pack(f"=I{_DRIVER_INFO_BYTES - 4}x", _ETHTOOL_GDRVINFO))
    try:
        name = socket.if_indextoname(interface)
        fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sP", name.encode(), answer.buffer_info()[0]))
    except OSError:
        return ""
    return answer.tobytes()[4 : 4 + _NAME_BYTES].rstrip(b"\0").decode(errors="replace")


def _open_ipv6() -> socket.socket | None:
    """Return the socket for IPv6, or None where the kernel has no IPv6."""
    try:
        ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    ipv6.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    return ipv6
