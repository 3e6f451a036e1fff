"""The packet queue: the kernel hands over packets and waits for a verdict on each.

Here is what a capture needs of it, and what both clients have in common.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Protocol

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue import messages, state
from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict, QueuedPacket
from certbot_standalone_nfq.host import kernel_modules, privileges

COPY_BYTES = 0xFFFF - 4
"""Bytes of each packet that we are shown: as many as fit an attribute, so all except of the very longest packets."""
GLIMPSE_BYTES = 1600
"""Bytes that we are shown of each packet if they are mostly bystanders': a whole frame of Ethernet. Of a longer packet,
the beginning is enough to recognise a challenge; the peer sends the rest again."""
QUEUE_LENGTH = 4096
"""Packets that may wait for a verdict; further ones pass (fail open)."""
RECEIVE_BUFFER = 8 << 20
"""Bytes of socket buffer: about 2 KiB for each packet that waits, as the kernel accounts for them."""

Request = Callable[[int, int], bytes]
"""A configuration request, given the queue number and the request's sequence number."""

Configuration = tuple[Request, ...]
"""What to ask for once the queue is bound."""


FOR_CHALLENGES: Configuration = (
    lambda queue, sequence: messages.copy_packets(queue, sequence, COPY_BYTES),
    lambda queue, sequence: messages.set_length(queue, sequence, QUEUE_LENGTH),
    messages.fail_open,
)
FOR_WHOLE_PORT: Configuration = (
    lambda queue, sequence: messages.copy_packets(queue, sequence, GLIMPSE_BYTES),
    lambda queue, sequence: messages.set_length(queue, sequence, QUEUE_LENGTH),
    messages.fail_open_unsegmented,
)


_FEW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)
"""What the kernel says if it has too little of something, not if it lacks packet queues."""


class QueueOccupied(Exception):
    """Another process listens to the queue with this number."""


class PacketQueue(Protocol):
    """A queue that this process listens to."""

    number: int

    def fileno(self) -> int:
        """Return a descriptor that is readable when `receive` has something."""

    def receive(self) -> list[QueuedPacket]:
        """Return packets that have come, without waiting; none left is an empty list.

        Malformed messages are skipped, and losses are logged: neither is an error.
        """

    def give_verdict(
        self, packet: int, verdict: KernelVerdict, mark: int | None = None, payload: bytes | None = None
    ) -> None:
        """Decide on a packet; with a mark or a payload, it goes on with these. Raises OSError."""

    def close(self) -> None:
        """Unbind the queue; the kernel drops what still waits in it. Calling it again is no error."""


def bind_error(number: int, error: OSError) -> Exception:
    """Return what the kernel's refusal of a queue number means.

    EPERM means that another socket is bound to the number (nfqnl_recv_config), or that the process does not have
    CAP_NET_ADMIN in the network namespace (nfnetlink_rcv).
    """
    occupied = number in (state.bound_queues() or ())
    if error.errno == errno.EBUSY or (error.errno == errno.EPERM and occupied):
        return QueueOccupied(number)
    return open_error(error)


def open_error(error: OSError) -> Exception:
    """Return what it means that a socket for packet queues cannot be opened or used, such as by EPROTONOSUPPORT."""
    if error.errno in _FEW:
        return errors.system_refused(error.strerror or str(error))
    return privileges.refusal("netlink", error) or kernel_modules.lack(kernel_modules.QUEUE)


def enlarge_receive_buffer(netlink: socket.socket) -> None:
    """Give a socket the receive buffer that a full queue needs, beyond the system's limit where permitted."""
    so_rcvbufforce = 33  # include/uapi/asm-generic/socket.h; the socket module does not name it
    try:
        netlink.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, RECEIVE_BUFFER)
    except OSError:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
