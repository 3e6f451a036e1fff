"""The packet queue by a netlink socket of our own; it needs nothing beyond the standard library."""

from __future__ import annotations

import errno
import itertools
import logging
import socket

from certbot_standalone_nfq.capture.nfqueue import messages
from certbot_standalone_nfq.capture.nfqueue.messages import Acknowledgment, KernelVerdict, QueuedPacket
from certbot_standalone_nfq.capture.nfqueue.queue import (
    Configuration,
    Request,
    bind_error,
    enlarge_receive_buffer,
    open_error,
)
from certbot_standalone_nfq.host import kernel_modules

logger = logging.getLogger(__name__)

_DATAGRAM = 1 << 17
_BATCH = 32
"""Datagrams to read at a time, each a packet: so few that the first one does not wait long for its verdict."""
_REPLY_TIMEOUT = 5.0


class NetlinkQueue:
    """The queue by a netlink socket of our own."""

    def __init__(self, number: int, configuration: Configuration) -> None:
        """Become the queue's listener. Raises QueueOccupied, or one of the package's errors."""
        self.number = number
        self._sequence = itertools.count(1)
        self._buffer = memoryview(bytearray(_DATAGRAM))
        self._early: list[QueuedPacket] = []
        self._warned = False
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, messages.NETLINK_NETFILTER)
        except OSError as error:
            raise open_error(error) from error
        try:
            self._configure(configuration)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the netlink socket's descriptor."""
        return self._socket.fileno()

    def receive(self) -> list[QueuedPacket]:
        """Return the packets of a few datagrams."""
        packets, self._early = self._early, []
        for _ in range(_BATCH):
            found = self._read()
            if found is None:
                break
            packets += [message for message in found if isinstance(message, QueuedPacket)]
        return packets

    def give_verdict(
        self, packet: int, verdict: KernelVerdict, mark: int | None = None, payload: bytes | None = None
    ) -> None:
        """Send the verdict; the kernel replies to it only if it is refused."""
        self._socket.send(messages.verdict(self.number, packet, verdict, mark, payload))

    def close(self) -> None:
        """Close the socket, which unbinds the queue."""
        self._socket.close()

    def _configure(self, configuration: Configuration) -> None:
        self._socket.bind((0, 0))
        enlarge_receive_buffer(self._socket)
        self._socket.settimeout(_REPLY_TIMEOUT)
        try:
            self._bind()
        except OSError as error:
            raise bind_error(self.number, error) from error
        for request in configuration:
            self._ask(request)
        self._socket.setblocking(False)

    def _bind(self) -> None:
        try:
            self._ask(messages.bind)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EBUSY):
                raise
            kernel_modules.load(kernel_modules.QUEUE)  # the kernel does so itself, unless it is forbidden
            self._ask(messages.bind)

    def _ask(self, request: Request) -> None:
        """Send a configuration request and wait for its reply. Raises OSError with the kernel's errno."""
        sequence = next(self._sequence)
        self._socket.send(request(self.number, sequence))
        while True:
            for message in self._read() or ():
                if isinstance(message, QueuedPacket):
                    self._early.append(message)
                elif message.sequence == sequence:
                    if message.error:
                        raise OSError(message.error, "nfnetlink_queue")
                    return

    def _read(self) -> list[QueuedPacket | Acknowledgment] | None:
        """Return the messages of one datagram, or None if there is none."""
        found: list[QueuedPacket | Acknowledgment] = []
        try:
            length = self._socket.recv_into(self._buffer)
            found.extend(messages.decode(bytes(self._buffer[:length])))
        except BlockingIOError:
            return None
        except messages.MalformedMessage as error:
            self._warn(f"a message of the kernel is malformed: {error}")
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._warn("more packets came than the receive buffer holds; the kernel let them pass")
        return found

    def _warn(self, what: str) -> None:
        (logger.debug if self._warned else logger.warning)("Packet queue %d: %s", self.number, what)
        self._warned = True
