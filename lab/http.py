"""A client that speaks just enough HTTP to ask, and shows exactly what came back."""

from __future__ import annotations

import socket
import struct

from lab.hosts import Host
from lab.interceptor import TOKEN

CLOSE = "Host: example.com\r\nConnection: close\r\n"
PAGE_REQUEST = f"GET / HTTP/1.1\r\n{CLOSE}\r\n".encode()
KEPT_PAGE_REQUEST = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


def request(token: str = TOKEN, method: str = "GET", headers: str = "Host: example.com\r\n") -> bytes:
    """Return a challenge request."""
    return f"{method} /.well-known/acme-challenge/{token} HTTP/1.1\r\n{headers}\r\n".encode()


def reset_on_close(connection: socket.socket) -> None:
    """Have a connection end by a reset when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    received = b""
    while octets := connection.recv(1 << 16):
        received += octets
    return received


def read_response(connection: socket.socket) -> bytes:
    """Read one response with a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def _some(connection: socket.socket) -> bytes:
    octets = connection.recv(1 << 16)
    if not octets:
        raise ConnectionError("closed in the middle of a response")
    return octets


def ask(client: Host, address: str, octets: bytes | None = None, port: int = 80, source: str = "") -> bytes:
    """Send a request on a new connection and return all that comes back until it is closed."""
    with client.connect(address, port, source=source) as connection:
        connection.sendall(request() if octets is None else octets)
        return read_all(connection)


def body(response: bytes) -> str:
    """Return a response's body, or its status line if it is no success."""
    head, _, content = response.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0]
    return content.decode() if b" 200 " in status else status.decode()
