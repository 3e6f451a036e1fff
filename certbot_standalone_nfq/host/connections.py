"""Whether a socket of this machine has a TCP connection: sock_diag(7), asked for one connection at a time.

It costs some ten microseconds, however many sockets there are. The kernel does not tell a connection's sequence
numbers to others. But it tells whether the connection is still there after a reset, and a reset ends a connection
only if its number is exactly the expected one (RFC 5961, 3.2): so a segment's number can be proven.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
import time
from typing import NamedTuple

from certbot_standalone_nfq.engine.allowance import Allowance
from certbot_standalone_nfq.host import rtnetlink, sock_diag
from certbot_standalone_nfq.host.netlink import Questions
from certbot_standalone_nfq.wire.addresses import packed

logger = logging.getLogger(__name__)

_SOCK_DIAG_BY_FAMILY = 20
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_MEMORY = 7  # INET_DIAG_SKMEMINFO
_ESTABLISHED, _SYN_RECV, _LISTEN = 1, 3, 10  # include/net/tcp_states.h
_OPEN = (_ESTABLISHED, _SYN_RECV)
"""States in which a server has a connection on which a client's data may come, and be answered."""
_PAUSES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01)
"""Seconds to wait for a program that is busy with its socket, or for another that has the reset in a queue of its own.
Either takes microseconds, unless it is interrupted."""
_PATIENCE, _PATIENCE_PER_SECOND = 1.0, 0.1
"""A budget: the most seconds that it holds, and how many it gains per second. It pays for waiting while the socket has
no packet to look at. A guess by a stranger looks the same, and its reset has no effect."""

_REQUEST = struct.Struct("=BBBxI2s2s16s16sIII")
"""Of `struct inet_diag_req_v2`: family, protocol, extensions, states; and the socket's identity, its own end first."""
_ANSWER = struct.Struct("=BB70x")
"""Of `struct inet_diag_msg`: the family and the state; attributes follow."""
_BACKLOG = struct.Struct("=28xI4x")
"""Of the socket's memory: bytes of packets that wait until its program has let go of it (SK_MEMINFO_BACKLOG)."""

Ends = tuple[str, int, str, int]
"""The peer's address and port, and the server's, in the order of `wire.tcp.Connection`."""


class _Found(NamedTuple):
    state: int
    waiting: int
    """Bytes of packets that the socket has not looked at yet."""


class Connections:
    """The connections of one network namespace: that of the thread that makes it. For use by one thread at a time."""

    def __init__(self) -> None:
        """Find out whether the kernel can be asked; see `known`."""
        self._kernel: socket.socket | None = None
        self._patience = Allowance(_PATIENCE_PER_SECOND, most=_PATIENCE)
        with contextlib.suppress(OSError):
            self._kernel = sock_diag.connect()
            self._questions = Questions(self._kernel)
            self._probe(self._kernel)

    @property
    def known(self) -> bool:
        """Whether the kernel tells."""
        return self._kernel is not None

    def is_open(self, ends: Ends, interface: int = 0) -> bool:
        """Whether a socket has the connection whose packets come in by an interface, and neither end has closed.

        Raises OSError.
        """
        found = self._find(ends, interface)
        return found is not None and found.state in _OPEN

    def has_ended(self, ends: Ends, interface: int = 0) -> bool:
        """Whether no socket has the connection any more, once all that came for it has been looked at. Raises OSError.

        It waits for that, some 20 ms at most; where it has often waited in vain, only for what has come to the socket.
        """
        for pause in _PAUSES:
            found = self._find(ends, interface)
            if found is None:
                return True
            if not found.waiting and not self._patience.take(time.monotonic(), pause):
                return False
            time.sleep(pause)
        return self._find(ends, interface) is None

    def close(self) -> None:
        """Close the socket. Calling it again is no error."""
        if self._kernel:
            self._kernel.close()
            self._kernel = None

    def _probe(self, kernel: socket.socket) -> None:
        """Close the socket if the kernel lacks the module: it would answer as if there were no connection."""
        try:
            sock_diag.listening(kernel, 0, families=(socket.AF_INET,))
        except OSError as error:
            logger.debug("The kernel does not tell which connections there are: %s", error)
            self.close()

    def _find(self, ends: Ends, interface: int) -> _Found | None:
        if self._kernel is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            _, content = self._questions.ask(_SOCK_DIAG_BY_FAMILY, _request(ends, interface))
        except FileNotFoundError:
            return None
        _, state = _ANSWER.unpack_from(content)
        if state == _LISTEN:  # the kernel names a listener where there is no connection
            return None
        return _Found(state, _waiting(content[_ANSWER.size :]))


def _request(ends: Ends, interface: int) -> bytes:
    peer, peer_port, local, local_port = ends
    theirs, ours = packed(peer), packed(local)
    family = socket.AF_INET if len(ours) == 4 else socket.AF_INET6
    ports = local_port.to_bytes(2, "big"), peer_port.to_bytes(2, "big")
    extensions = 1 << (_MEMORY - 1)
    return _REQUEST.pack(
        *(family, socket.IPPROTO_TCP, extensions, _ANY_STATE),
        *(*ports, ours, theirs, interface, _NO_COOKIE, _NO_COOKIE),
    )


def _waiting(attributes: bytes) -> int:
    memory = rtnetlink.attributes(attributes).get(_MEMORY, b"")
    return int(_BACKLOG.unpack_from(memory)[0]) if len(memory) >= _BACKLOG.size else 0
