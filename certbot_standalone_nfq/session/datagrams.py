"""Datagrams that Certbot itself receives: each is a question, and gets a reply from the address that it was sent to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Optional

from certbot_standalone_nfq.session.limited_log import LimitedLog

Reply = Callable[[bytes], Optional[bytes]]
"""Returns what to send back for a datagram, or None for nothing."""

_IP_PKTINFO = 8  # include/uapi/linux/in.h; the socket module does not name it in every version
_LONGEST = 4096
_AT_ONCE = 64
"""Datagrams to answer before other sockets are served again."""
_SPACE = socket.CMSG_SPACE(64)


def tell_destinations(opened: socket.socket) -> None:
    """Have a socket say of each datagram which of this machine's addresses it was sent to."""
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def answer(opened: socket.socket, reply: Reply, log: LimitedLog) -> None:
    """Answer datagrams that have come, some at a time."""
    for _ in range(_AT_ONCE):
        try:
            message, about, _flags, client = opened.recvmsg(_LONGEST, _SPACE)
            data = reply(message)
            if data:
                opened.sendmsg([data], [each for each in about if _is_destination(*each[:2])], 0, client)
        except BlockingIOError:
            return
        except OSError as error:  # also what an earlier reply met on its way
            log.debug("A datagram could not be answered: %s", error)


def _is_destination(level: int, kind: int) -> bool:
    return (level, kind) in ((socket.IPPROTO_IP, _IP_PKTINFO), (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO))
