"""The packet queue: the kernel hands over packets and waits for a verdict on each.

`PacketQueue` is what the interception needs of it; this module's client needs nothing beyond the standard
library.
"""

from __future__ import annotations

import errno
import itertools
import logging
import socket
from collections.abc import Callable
from typing import Optional, Protocol

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.kernel import nfnetlink, support
from certbot_standalone_nfq.kernel.nfnetlink import KernelVerdict, QueuedPacket

logger = logging.getLogger(__name__)

COPY_OCTETS = 0xFFFF
"""Octets of each packet that we are shown: all."""
QUEUE_LENGTH = 4096
"""Packets that may wait for a verdict; further ones pass (fail open)."""
RECEIVE_BUFFER = 8 << 20
"""Octets of socket buffer: about 2 KiB for each packet that waits, as the kernel accounts for them."""
_DATAGRAM = 1 << 17
_REPLY_TIMEOUT = 5.0

Request = Callable[[int, int], bytes]
"""A configuration request, given the queue number and the request's sequence number."""

CONFIGURATION: tuple[Request, ...] = (
    lambda queue, sequence: nfnetlink.copy_packets(queue, sequence, COPY_OCTETS),
    lambda queue, sequence: nfnetlink.set_length(queue, sequence, QUEUE_LENGTH),
    nfnetlink.fail_open,
)
"""What to ask for once the queue is bound."""


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
        self, packet: int, verdict: KernelVerdict, mark: Optional[int] = None, payload: Optional[bytes] = None
    ) -> None:
        """Decide on a packet; with a mark or a payload, it goes on with these. Raises OSError."""

    def close(self) -> None:
        """Give the queue up; the kernel drops what still waits in it."""


def bind_error(number: int, error: OSError) -> Exception:
    """Return what the kernel's refusal of a queue number means.

    EPERM is its word for a number that another socket is bound to (nfqnl_recv_config), and for a process without
    CAP_NET_ADMIN over the network namespace (nfnetlink_rcv).
    """
    if error.errno in (errno.EPERM, errno.EBUSY):
        if number in (support.bound_queues() or ()):
            return QueueOccupied(number)
        return errors.NotPrivileged("CAP_NET_ADMIN over this network namespace")
    return errors.KernelSupportMissing(*_fields(support.QUEUE))


def _fields(feature: support.Feature) -> tuple[str, str, str]:
    return feature.name, feature.module, feature.option


class NetlinkQueue:
    """The queue by a netlink socket of our own."""

    def __init__(self, number: int) -> None:
        """Become the queue's listener. Raises QueueOccupied, or one of the package's errors."""
        self.number = number
        self._sequence = itertools.count(1)
        self._early: list[QueuedPacket] = []
        self._warned = False
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nfnetlink.NETLINK_NETFILTER)
        except OSError as error:
            raise errors.KernelSupportMissing(*_fields(support.QUEUE)) from error
        try:
            self._configure()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the netlink socket's descriptor."""
        return self._socket.fileno()

    def receive(self) -> list[QueuedPacket]:
        """Return what one read brings."""
        if self._early:
            early, self._early = self._early, []
            return early
        return [message for message in self._read() if isinstance(message, QueuedPacket)]

    def give_verdict(
        self, packet: int, verdict: KernelVerdict, mark: Optional[int] = None, payload: Optional[bytes] = None
    ) -> None:
        """Send the verdict; the kernel replies to it only if it is refused."""
        self._socket.send(nfnetlink.verdict(self.number, packet, verdict, mark, payload))

    def close(self) -> None:
        """Close the socket, which unbinds the queue."""
        self._socket.close()

    def _configure(self) -> None:
        self._socket.bind((0, 0))
        enlarge_receive_buffer(self._socket)
        self._socket.settimeout(_REPLY_TIMEOUT)
        try:
            self._bind()
        except OSError as error:
            raise bind_error(self.number, error) from error
        for request in CONFIGURATION:
            self._ask(request)
        self._socket.setblocking(False)

    def _bind(self) -> None:
        try:
            self._ask(nfnetlink.bind)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EBUSY):
                raise
            support.load_modules(support.QUEUE.module)  # the kernel does so itself unless it must not
            self._ask(nfnetlink.bind)

    def _ask(self, request: Request) -> None:
        """Send a configuration request and wait for its reply. Raises OSError with the kernel's errno."""
        sequence = next(self._sequence)
        self._socket.send(request(self.number, sequence))
        while True:
            for message in self._read():
                if isinstance(message, QueuedPacket):
                    self._early.append(message)
                elif message.sequence == sequence:
                    if message.error:
                        raise OSError(message.error, "nfnetlink_queue")
                    return

    def _read(self) -> list[QueuedPacket | nfnetlink.Acknowledgment]:
        messages: list[QueuedPacket | nfnetlink.Acknowledgment] = []
        try:
            messages.extend(nfnetlink.decode(self._socket.recv(_DATAGRAM)))
        except BlockingIOError:
            pass
        except nfnetlink.MalformedMessage as error:
            self._warn(f"a message of the kernel makes no sense: {error}")
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._warn("more packets came than the receive buffer holds; the kernel let them pass")
        return messages

    def _warn(self, what: str) -> None:
        (logger.debug if self._warned else logger.warning)("Packet queue %d: %s", self.number, what)
        self._warned = True


def enlarge_receive_buffer(netlink: socket.socket) -> None:
    """Give a socket the receive buffer a full queue needs, beyond the system's limit where we may."""
    so_rcvbufforce = 33  # include/uapi/asm-generic/socket.h; the socket module does not name it
    try:
        netlink.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, RECEIVE_BUFFER)
    except OSError:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
