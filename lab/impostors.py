"""Servers that answer in place of the one that is meant: other machines, proxies, gateways that redirect."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator

from lab.hosts import Host

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def impostor(host: Host, address: str, answer: Answer) -> Iterator[None]:
    """Let something on a host answer all requests to port 80 of one of its addresses."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with host.inside():
        server = Server((address, 80), Handler)
    thread = threading.Thread(target=server.serve_forever, name="impostor")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def not_found(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer as a server does that knows nothing of it."""
    handler.send_error(404)


def redirect(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Send everybody to HTTPS, where nothing is."""
    handler.send_response(301)
    handler.send_header("Location", f"https://{handler.headers['Host'].partition(':')[0]}{handler.path}")
    handler.end_headers()


def spoiling_proxy(client: Host, server: str) -> Answer:
    """Return a proxy that asks the server behind it, says so in a header, and answers a page of its own."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        with client.connect(server) as connection:
            head = f"GET {handler.path} HTTP/1.1\r\nHost: {handler.headers['Host']}\r\nX-Forwarded-For: 192.0.2.9\r\n"
            connection.sendall(f"{head}Via: 1.1 proxy\r\nConnection: close\r\n\r\n".encode())
            while connection.recv(1 << 16):
                pass
        page = b"<p>Checking your browser</p>"
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        handler.wfile.write(page)

    return answer
