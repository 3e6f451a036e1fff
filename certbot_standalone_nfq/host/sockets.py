"""Sockets that listen on a port, of TCP or UDP: once, from files in /proc/net; again and again, from sock_diag."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq.host import sock_diag
from certbot_standalone_nfq.wire.addresses import version_of

logger = logging.getLogger(__name__)

_STATES = {socket.IPPROTO_TCP: "0A", socket.IPPROTO_UDP: "07"}
"""TCP_LISTEN, and what a socket of UDP is in that has no peer: TCP_CLOSE, include/net/tcp_states.h."""
_TABLES = {
    socket.IPPROTO_TCP: (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)),
    socket.IPPROTO_UDP: (("udp", socket.AF_INET), ("udp6", socket.AF_INET6)),
}


@dataclass(frozen=True)
class Listener:
    """A listening socket: the IP version, the address it is bound to, and its inode."""

    version: int
    address: str
    inode: int

    @property
    def anywhere(self) -> bool:
        """Whether it accepts connections to any address."""
        return ipaddress.ip_address(self.address).is_unspecified

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback

    def serves(self, address: str) -> bool:
        """Whether it accepts connections to an address.

        A socket bound to [::] is assumed to accept IPv4 too. Whether it does is its program's choice (IPV6_V6ONLY),
        which /proc does not show.
        """
        if self.anywhere:
            return self.version == 6 or version_of(address) == 4
        return ipaddress.ip_address(self.address) == ipaddress.ip_address(address)


def listeners(port: int, protocol: int = socket.IPPROTO_TCP) -> list[Listener]:
    """Return the sockets that listen on a port in this network namespace. Raises OSError if they cannot be read."""
    found: list[Listener] = []
    for table, family in _TABLES[protocol]:
        path = Path("/proc/thread-self/net") / table
        if family == socket.AF_INET or path.exists():
            found += _read(path, family, port, protocol)
    return found


class Lookout:
    """Shows again and again who listens to a port, at little cost. Belongs to the namespace it was made in."""

    def __init__(self, port: int, protocol: int = socket.IPPROTO_TCP) -> None:
        self._port = port
        self._protocol = protocol
        self._kernel: socket.socket | None = None
        # The kernel loads a module for it if need be; `listeners` never makes it.
        with contextlib.suppress(OSError):
            self._kernel = sock_diag.connect()

    def look(self) -> list[Listener]:
        """Return the sockets that listen to the port now. Raises OSError."""
        if self._kernel:
            try:
                return [_listener(*found) for found in sock_diag.listening(self._kernel, self._port, self._protocol)]
            except OSError as error:
                logger.debug("The kernel does not list sockets by sock_diag: %s", error)
                self.close()  # and do not ask again: each time, the kernel would look for a module
        return listeners(self._port, self._protocol)

    def close(self) -> None:
        """Close the socket. Calling it again is no error."""
        if self._kernel:
            self._kernel.close()
            self._kernel = None


def _read(path: Path, family: int, port: int, protocol: int) -> Iterator[Listener]:
    with path.open(encoding="ascii", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            fields = line.split()
            if fields[3] != _STATES[protocol]:
                if protocol == socket.IPPROTO_TCP:
                    return  # the kernel shows all listeners first (tcp_get_idx); many other sockets may follow
                continue
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _listener(family, _address(family, address), int(fields[9]))


def _address(family: int, hexadecimal: str) -> str:
    """Return an address that the kernel prints as words of 32 bits in the machine's byte order."""
    words = [int(hexadecimal[at : at + 8], 16) for at in range(0, len(hexadecimal), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))


def _listener(family: int, address: str, inode: int) -> Listener:
    """Make a listener; an IPv4 address that a socket for IPv6 is bound to is IPv4."""
    mapped = ipaddress.IPv6Address(address).ipv4_mapped if family == socket.AF_INET6 else None
    if mapped:
        return Listener(4, str(mapped), inode)
    return Listener(6 if family == socket.AF_INET6 else 4, address, inode)
