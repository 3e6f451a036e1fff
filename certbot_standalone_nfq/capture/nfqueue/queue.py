"""The packet queue: the kernel hands over packets and waits for a verdict on each.

Here is what the interception needs of it, and what both clients have in common.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Protocol

from certbot_standalone_nfq.capture.nfqueue import messages, state
from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict, QueuedPacket
from certbot_standalone_nfq.host import kernel_modules, privileges

COPY_OCTETS = 0xFFFF - 4
"""Octets of each packet that we are shown: as many as fit an attribute, so all but of the very longest packets."""
GLIMPSE_OCTETS = 1600
"""Octets that we are shown of each packet if they are mostly bystanders': a whole frame of Ethernet. The beginning of
what is longer is enough to tell a challenge; the peer is asked for the rest of that again."""
QUEUE_LENGTH = 4096
"""Packets that may wait for a verdict; further ones pass (fail open)."""
RECEIVE_BUFFER = 8 << 20
"""Octets of socket buffer: about 2 KiB for each packet that waits, as the kernel accounts for them."""

Request = Callable[[int, int], bytes]
"""A configuration request, given the queue number and the request's sequence number."""

Configuration = tuple[Request, ...]
"""What to ask for once the queue is bound."""


def _set_length(queue: int, sequence: int) -> bytes:
    return messages.set_length(queue, sequence, QUEUE_LENGTH)


FOR_CHALLENGES: Configuration = (
    lambda queue, sequence: messages.copy_packets(queue, sequence, COPY_OCTETS),
    _set_length,
    messages.fail_open,
)
FOR_WHOLE_PORT: Configuration = (
    lambda queue, sequence: messages.copy_packets(queue, sequence, GLIMPSE_OCTETS),
    _set_length,
    messages.fail_open_unsegmented,
)


class QueueOccupied(Exception):
    """Another process listens to the queue with this number."""


class PacketQueue(Protocol):
    """A queue that this process listens to."""

    number: int

    def fileno(self) -> int:
        """Return a descriptor that is readable when `receive` has something."""

    def receive(self) -> list[QueuedPacket]:
        """Return packets that have come, without waiting; none left is an empty list.

        Messages that make no sense are passed over, and losses noted in the log: neither is an error.
        """

    def give_verdict(
        self, packet: int, verdict: KernelVerdict, mark: int | None = None, payload: bytes | None = None
    ) -> None:
        """Decide on a packet; with a mark or a payload, it goes on with these. Raises OSError."""

    def close(self) -> None:
        """Give the queue up; the kernel drops what still waits in it."""


def bind_error(number: int, error: OSError) -> Exception:
    """Return what the kernel's refusal of a queue number means.

    EPERM is its word for a number that another socket is bound to (nfqnl_recv_config), and for a process without
    CAP_NET_ADMIN over the network namespace (nfnetlink_rcv).
    """
    occupied = number in (state.bound_queues() or ())
    if error.errno == errno.EBUSY or (error.errno == errno.EPERM and occupied):
        return QueueOccupied(number)
    return open_error(error)


def open_error(error: OSError) -> Exception:
    """Return what it means that a socket for packet queues cannot be had, EPROTONOSUPPORT for one."""
    return privileges.refusal("netlink", error) or kernel_modules.lack(kernel_modules.QUEUE)


def enlarge_receive_buffer(netlink: socket.socket) -> None:
    """Give a socket the receive buffer a full queue needs, beyond the system's limit where we may."""
    so_rcvbufforce = 33  # include/uapi/asm-generic/socket.h; the socket module does not name it
    try:
        netlink.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, RECEIVE_BUFFER)
    except OSError:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
