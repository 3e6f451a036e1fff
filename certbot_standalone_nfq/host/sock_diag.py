"""The kernel's list of listening sockets, asked for by port: sock_diag(7), include/uapi/linux/inet_diag.h.

Unlike /proc/net/tcp, whose every line has to be printed and read, it costs a few microseconds. Numbers are in the
machine's byte order, ports and addresses in network order.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST_DUMP = 0x301
_LISTENING = {socket.IPPROTO_TCP: 1 << 10, socket.IPPROTO_UDP: 1 << 7}
"""The states, as bits, of sockets without a peer: TCP_LISTEN and TCP_CLOSE, include/net/tcp_states.h."""
_SECONDS = 1.0
_MAX_DATAGRAM = 1 << 16

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s46x")
"""Family, protocol, extensions, states; then the socket's identity, of which only the local port is given."""
_ANSWER = struct.Struct("=B7x16s44xI")
"""Of `struct inet_diag_msg`: the family, the local address, the inode."""


class DiagnosedSocket(NamedTuple):
    """A listening socket as the kernel shows it."""

    family: int
    address: str
    inode: int


def connect() -> socket.socket:
    """Open a socket to ask the kernel by, in this thread's network namespace. Raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    opened.settimeout(_SECONDS)
    return opened


def listening(
    kernel: socket.socket,
    port: int,
    protocol: int = socket.IPPROTO_TCP,
    families: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6),
) -> list[DiagnosedSocket]:
    """Return the sockets that listen to a port of TCP or UDP. Raises OSError, also if the kernel does not support it.

    A socket of UDP listens if it has no peer.
    """
    return [found for family in families for found in _dump(kernel, family, port, protocol)]


def _dump(kernel: socket.socket, family: int, port: int, protocol: int) -> Iterator[DiagnosedSocket]:
    request = _REQUEST.pack(family, protocol, 0, _LISTENING[protocol], port.to_bytes(2, "big"))
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 0, 0)
    kernel.send(header + request)
    while True:
        for kind, body in _messages(kernel.recv(_MAX_DATAGRAM)):
            if kind == _SOCK_DIAG_BY_FAMILY:
                yield _read(body)
            elif kind in (_NLMSG_DONE, _NLMSG_ERROR):
                _raise_for(body)
                return


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    while len(datagram) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(datagram)
        yield kind, datagram[_HEADER.size : length]
        datagram = datagram[max(length + 3 & ~3, _HEADER.size) :]


def _read(body: bytes) -> DiagnosedSocket:
    family, address, inode = _ANSWER.unpack_from(body)
    return DiagnosedSocket(family, socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16]), inode)


def _raise_for(body: bytes) -> None:
    number = -struct.unpack_from("=i", body)[0]
    if number:
        raise OSError(number, os.strerror(number))
