"""netlink(7) over a socket that stays open: questions that the kernel answers with one message each."""

from __future__ import annotations

import os
import socket
import struct

_NLM_F_REQUEST = 0x1
_NLMSG_ERROR = 2
_MAX_DATAGRAM = 1 << 16
_LAST_SEQUENCE = 0xFFFF_FFFF

_HEADER = struct.Struct("=IHHII")


class Questions:
    """Asks by a socket, which stays the caller's. For use by one thread at a time."""

    def __init__(self, kernel: socket.socket) -> None:
        self._kernel = kernel
        self._sequence = 0

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Return the kind of the answer, and what follows its header. Raises OSError, also for the kernel's refusal."""
        self._sequence = self._sequence + 1 & _LAST_SEQUENCE
        header = _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST, self._sequence, 0)
        self._kernel.send(header + body)
        while True:
            # The kernel answers before `send` returns.
            answer = self._kernel.recv(_MAX_DATAGRAM, socket.MSG_DONTWAIT)
            length, answered, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._sequence:
                return answered, _checked(answered, answer[_HEADER.size : length])


def _checked(kind: int, content: bytes) -> bytes:
    if kind == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", content)[0]
        raise OSError(number, os.strerror(number))
    return content
