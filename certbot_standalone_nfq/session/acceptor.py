"""What Certbot itself receives: TCP connections and UDP datagrams. Pending challenges are answered, all else refused.

Everything is bounded: the number of connections, and the bytes and the seconds of each. All of it runs on the thread
that calls `serve`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.engine.protocols import Conversation, Declined, Output, Recognition, Undecided
from certbot_standalone_nfq.session import datagrams
from certbot_standalone_nfq.session.limited_log import LimitedLog
from certbot_standalone_nfq.wire.proxy_protocol import without_header

logger = logging.getLogger(__name__)

_CHUNK = 1 << 14
_ACCEPT_AT_ONCE = 64
"""Connections to accept before those that are open are served again."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SECONDS_WITHOUT_ROOM = 0.05


@dataclass(frozen=True)
class Limits:
    """What clients may use."""

    clients: int = 512
    """At a time, each a file descriptor, of which Certbot may have a thousand. Beyond it the oldest makes room."""
    bytes: int = 1 << 16
    """From one client."""
    seconds: float = 30.0
    """For one client."""
    closing_seconds: float = 2.0
    """For a client to close after us. Closing with unread data would reset the connection, and lose our answer."""


def _say_nothing(_start: bytes) -> bytes:
    return b""


@dataclass(frozen=True)
class Answering:
    """What to say to clients."""

    recognise: Callable[[bytes], Recognition]
    """Returns what a stream is that begins with these bytes, perhaps with a load balancer's header."""
    refuse: Callable[[bytes], bytes] = _say_nothing
    """Returns what tells the client of such a stream that its request is not for us."""
    reply: datagrams.Reply | None = None
    """Returns what to send back for a datagram; none, where no challenge is answered over UDP."""


class _Client:
    """One connection, with its bytes so far or the conversation that they began. `receive` may raise OSError."""

    def __init__(self, connection: socket.socket, answering: Answering, limits: Limits) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + limits.seconds
        self._answering = answering
        self._limits = limits
        self._received = 0
        self._start = b""
        self._conversation: Conversation | None = None
        self._closing = False

    def receive(self) -> bool:
        """Take what has come, and answer it; return whether the connection goes on."""
        data = self.connection.recv(_CHUNK)
        self._received += len(data)
        if self._received > self._limits.bytes:
            return False
        if not self._closing:
            self._say(self._answer(data))
        return bool(data)

    def _answer(self, data: bytes) -> Output:
        ended = not data
        if self._conversation:
            return self._conversation.receive(data, ended=ended)
        self._start += data
        if not self._start:
            return Output(close=True)
        found = self._answering.recognise(self._start)
        if isinstance(found, Undecided) and not ended:
            return Output()
        if found is None or isinstance(found, (Declined, Undecided)):
            return Output(self._answering.refuse(self._start), close=True)
        self._conversation = found
        return found.receive(without_header(self._start), ended=ended)

    def _say(self, output: Output) -> None:
        # The socket's buffer takes several times what any challenge is answered with.
        if output.data and self.connection.send(output.data) < len(output.data):
            raise BlockingIOError("the client does not read")
        if output.close:
            self._closing = True
            self.deadline = min(self.deadline, time.monotonic() + self._limits.closing_seconds)
            self.connection.shutdown(socket.SHUT_WR)


class Acceptor:
    """The connections of any number of listening sockets."""

    def __init__(self, answering: Answering, limits: Limits | None = None) -> None:
        self._answering = answering
        self._limits = limits or Limits()
        self._log = LimitedLog(logger)
        self._selector = selectors.DefaultSelector()
        self._clients: dict[_Client, None] = {}
        """The oldest first."""
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._selector.register(self._reading, selectors.EVENT_READ)

    def add(self, listener: socket.socket) -> None:
        """Accept connections of a listening socket, or datagrams, from now on."""
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, listener)

    def remove(self, listener: socket.socket) -> None:
        """Accept no more of a listening socket, and close it. Connections go on."""
        self._selector.unregister(listener)
        listener.close()

    def serve(self, seconds: float) -> None:
        """Wait for events, so long at most, and handle them."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, _Client):
                self._receive(key.data)
            elif key.data and key.data.type == socket.SOCK_DGRAM:
                datagrams.answer(key.data, self._reply, self._log)
            elif key.data:
                self._accept(key.data)
        self._expire()

    def wake(self) -> None:
        """Make `serve` return at once, now and from now on. For other threads."""
        with contextlib.suppress(BlockingIOError):
            self._writing.send(b"\0")

    def close(self) -> None:
        """Close everything, the listening sockets included. Calling it again is no error."""
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._writing.close()
        self._selector.close()
        self._clients.clear()

    def _reply(self, message: bytes) -> bytes | None:
        return self._answering.reply(message) if self._answering.reply else None

    def _accept(self, listener: socket.socket) -> None:
        for accepted in range(_ACCEPT_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._log.debug("A connection could not be accepted: %s", error)
                if error.errno in _NO_ROOM and not accepted:  # a later one fails like this even if no client waits
                    self._make_room()
                return
            connection.setblocking(False)
            client = _Client(connection, self._answering, self._limits)
            self._clients[client] = None
            self._selector.register(connection, selectors.EVENT_READ, client)
            if len(self._clients) > self._limits.clients:
                self._make_room()

    def _receive(self, client: _Client) -> None:
        if client.connection.fileno() < 0:
            return  # it has just made room for another
        try:
            if client.receive():
                return
        except Exception as error:  # usually, a client or the taking over has reset the connection
            errors.raise_interruption(error)
            self._log.debug("A connection ended early: %s", error)
        self._drop(client)

    def _expire(self) -> None:
        now = time.monotonic()
        for client in [each for each in self._clients if each.deadline < now]:
            self._drop(client)

    def _make_room(self) -> None:
        """Close the oldest connection; if there is none, give other code time to close something."""
        oldest = next(iter(self._clients), None)
        if oldest:
            self._drop(oldest)
        else:
            time.sleep(_SECONDS_WITHOUT_ROOM)

    def _drop(self, client: _Client) -> None:
        del self._clients[client]
        self._selector.unregister(client.connection)
        client.connection.close()
