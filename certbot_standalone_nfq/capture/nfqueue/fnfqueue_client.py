"""The packet queue by the fnfqueue package, where that is installed.

fnfqueue 1.1 receives, on a thread of its own. What it does wrong is done here: it overruns messages with two or more
attributes (so we send ours, over its socket), and damages what it reads from a packet with a priority (so we decode
the message again from the bytes received).
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import socket
import sys
import threading
from typing import Any

import fnfqueue

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue import messages
from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict, QueuedPacket
from certbot_standalone_nfq.capture.nfqueue.queue import Configuration, bind_error, enlarge_receive_buffer, open_error

logger = logging.getLogger(__name__)


class FnfqueueQueue:
    """The queue by an fnfqueue.Connection."""

    def __init__(self, number: int, configuration: Configuration, held: contextlib.ExitStack) -> None:
        """Become the queue's listener. Raises QueueOccupied, or one of the package's errors.

        Threads would stay if an interruption came before the caller has the queue: `held` closes it.
        """
        self.number = number
        self._packets: collections.deque[QueuedPacket] = collections.deque()
        self._closing = False
        self._thread = threading.Thread(target=self._collect, name="fnfqueue", daemon=True)
        self._opened = contextlib.ExitStack()
        held.callback(self.close)
        try:
            self._open(self._opened)
            self._bind()
            for request in configuration:
                self._call(request)
            self._thread.start()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return a pipe's descriptor: fnfqueue reads the socket itself."""
        return self._wake_read

    def receive(self) -> list[QueuedPacket]:
        """Return all that fnfqueue's thread has received."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        packets: list[QueuedPacket] = []
        while self._packets:
            packets.append(self._packets.popleft())
        return packets

    def give_verdict(
        self, packet: int, verdict: KernelVerdict, mark: int | None = None, payload: bytes | None = None
    ) -> None:
        """Send the verdict, encoded by us, over fnfqueue's socket: the kernel takes it from no other."""
        self._socket.send(messages.verdict(self.number, packet, verdict, mark, payload))

    def close(self) -> None:
        """Close fnfqueue's socket, which unbinds the queue."""
        self._closing = True
        self._opened.close()

    def _open(self, opened: contextlib.ExitStack) -> None:
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            opened.callback(os.close, end)
            os.set_blocking(end, False)
        try:
            self._connection = fnfqueue.Connection()
        except OSError as error:
            raise open_error(error) from error
        opened.callback(self._end)
        self._socket = socket.socket(fileno=os.dup(self._connection._conn.fd))
        opened.callback(self._socket.close)
        enlarge_receive_buffer(self._socket)

    def _end(self) -> None:
        # fnfqueue's close() frees the connection while its own thread uses it, so that thread is ended first.
        os.write(self._connection._w, b"\0")
        self._connection._worker.join()
        self._connection.close()
        if self._thread.is_alive():
            self._thread.join()

    def _bind(self) -> None:
        try:
            self._connection.bind(self.number)
        except OSError as error:
            raise bind_error(self.number, error) from error

    def _call(self, request: Any) -> None:
        """Send a request of ours and have fnfqueue wait for its reply."""

        def send(_connection: Any, _acknowledge: int, sequence: int) -> int:
            return self._socket.send(request(self.number, sequence))

        self._connection._call(send)

    def _collect(self) -> None:
        """Take packets from fnfqueue until the connection is closed."""
        while not self._closing:
            try:
                for packet in self._connection:
                    self._take(packet)
            except fnfqueue.BufferOverflowException:
                logger.debug("Packet queue %d: more packets came than the receive buffer holds", self.number)
                self._connection.reset()
            except Exception as error:  # which is how fnfqueue reports a verdict that the kernel refused
                errors.raise_interruption(error)
                logger.debug("Packet queue %d: %s", self.number, error)

    def _take(self, packet: Any) -> None:
        buffer = fnfqueue.ffi.buffer(packet.packet.buffer, packet.packet.len)
        length = int.from_bytes(buffer[:4], sys.byteorder)
        try:
            found = list(messages.decode(bytes(buffer[: min(length, len(buffer))])))
        except messages.MalformedMessage as error:
            logger.debug("Packet queue %d: %s", self.number, error)
            found = []
        self._connection._recycle(packet.packet)
        self._packets.extend(message for message in found if isinstance(message, QueuedPacket))
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._wake_write, b"\0")
