"""Clients that show whether a server is as it was: one that keeps its connection, one that hangs up."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator

from lab.hosts import Host
from lab.http import CLOSE, KEPT_PAGE_REQUEST, PAGE_REQUEST, ask, body, read_response, reset_on_close
from lab.servers.web_server import WebServer

_HANG_UPS = 10


class KeptConnection:
    """A connection on which a page was served, and more are to be."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._first = self._ask()

    def works(self) -> bool:
        """Ask for the page again on the same connection; tell whether the same came."""
        try:
            return self._ask() == self._first
        except OSError:
            return False

    def _ask(self) -> str:
        self._connection.sendall(KEPT_PAGE_REQUEST)
        return body(read_response(self._connection))


@contextlib.contextmanager
def keeping(client: Host, addresses: Iterable[str]) -> Iterator[list[KeptConnection]]:
    """Keep a connection to each address open."""
    with contextlib.ExitStack() as stack:
        yield [KeptConnection(stack.enter_context(client.connect(address))) for address in addresses]


def hang_up(client: Host, address: str) -> None:
    """Connect, and reset the connection without having asked, before the server accepts it and after."""
    for patient in [False, True] * (_HANG_UPS // 2):
        connection = client.connect(address)
        if patient:
            ask(client, address, PAGE_REQUEST)  # a later connection was accepted, so this one was
        reset_on_close(connection)
        connection.close()


def ask_and_wait(client: Host, address: str, web_server: WebServer, path: str = "") -> None:
    """Ask for something and wait until that, and so all that was before, is in the server's log."""
    with web_server.logged() as mark:
        ask(client, address, f"GET {path}{mark} HTTP/1.1\r\n{CLOSE}\r\n".encode())
