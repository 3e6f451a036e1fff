"""Sockets that listen on a TCP port, from /proc/net/tcp and tcp6."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq.wire.addresses import version_of

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_TABLES = (("tcp", socket.AF_INET, 4), ("tcp6", socket.AF_INET6, 6))


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


def listeners(port: int) -> list[Listener]:
    """Return the sockets that listen on a port in this network namespace. Raises OSError if they cannot be read."""
    found: list[Listener] = []
    for table, family, version in _TABLES:
        path = Path("/proc/thread-self/net") / table
        if version == 4 or path.exists():
            found += _read(path, family, version, port)
    return found


def _read(path: Path, family: int, version: int, port: int) -> Iterator[Listener]:
    with path.open(encoding="ascii", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            fields = line.split()
            if fields[3] != _LISTEN:
                return  # the kernel shows all listeners first (tcp_get_idx); many other sockets may follow
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _listener(family, version, address, int(fields[9]))


def _listener(family: int, version: int, hexadecimal: str, inode: int) -> Listener:
    """Make a listener of an address as the kernel prints it: words of 32 bits in the machine's byte order."""
    words = [int(hexadecimal[at : at + 8], 16) for at in range(0, len(hexadecimal), 8)]
    address = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
    mapped = ipaddress.IPv6Address(address).ipv4_mapped if version == 6 else None
    return Listener(4, str(mapped), inode) if mapped else Listener(version, address, inode)
