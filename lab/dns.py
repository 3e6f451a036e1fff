"""A DNS that a host's programs ask: pebble-challtestsrv at its port 53, and a resolv.conf of the host's own."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import running, wait_until

_ADDRESS = "127.0.0.1"
_MANAGEMENT = 8056

Answer = Callable[[bytes], bytes]
"""What a nameserver makes of a query."""


@dataclass
class Dns:
    """A running nameserver that knows of nothing yet, and where it is told."""

    host: Host
    listening: str = _ADDRESS
    management: int = _MANAGEMENT

    def address(self, name: str, *addresses: str) -> None:
        """Let a name have these addresses."""
        for action, family in (("add-a", "."), ("add-aaaa", ":")):
            some = [address for address in addresses if family in address]
            if some:
                self._manage(action, {"host": f"{name}.", "addresses": some})

    def caa(self, name: str, *issuers: str) -> None:
        """Let a name have issue records with these values."""
        policies = [{"tag": "issue", "value": issuer} for issuer in issuers]
        self._manage("add-caa", {"host": f"{name}.", "policies": policies})

    def fail(self, name: str) -> None:
        """Let every query for a name fail."""
        self._manage("set-servfail", {"host": f"{name}."})

    def _manage(self, action: str, request: object) -> None:
        body = json.dumps(request).encode()
        with self.host.connect(self.listening, self.management) as connection:
            connection.sendall(f"POST /{action} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            reply = connection.recv(4096)
        if b" 200 " not in reply.split(b"\r\n")[0]:
            raise RuntimeError(f"{action}: {reply!r}")


@contextlib.contextmanager
def resolving(host: Host, nameserver: str = _ADDRESS) -> Iterator[str]:
    """Let programs that are run on a host ask a certain nameserver, as `ip netns exec` arranges it; yield the file."""
    folder = Path("/etc/netns") / host.name
    parent_was_there = folder.parent.exists()
    wait_until(functools.partial(_make, folder), f"{folder} is made")
    try:
        (folder / "resolv.conf").write_text(f"nameserver {nameserver}\n")
        yield str(folder / "resolv.conf")
    finally:
        shutil.rmtree(folder)
        if not parent_was_there:
            with contextlib.suppress(OSError):  # another run has put its own there meanwhile
                folder.parent.rmdir()


def _make(folder: Path) -> bool:
    """Make a folder and its parent, which another run may be about to remove; tell whether it is there."""
    with contextlib.suppress(FileNotFoundError):
        folder.mkdir(parents=True)
    return folder.exists()


def command(address: str, management: int, *ports: int) -> list[str]:
    """Return the command that runs pebble-challtestsrv as a nameserver and nothing else."""
    disabled = [word for option in ("-http01", "-https01", "-tlsalpn01") for word in (option, "")]
    disabled += [word for option in ("-defaultIPv4", "-defaultIPv6") for word in (option, "")]
    served = ",".join(f"{address}:{port}" for port in ports)
    return ["pebble-challtestsrv", *disabled, "-dns01", served, "-management", f"{address}:{management}"]


@contextlib.contextmanager
def dns(host: Host) -> Iterator[Dns]:
    """Run a nameserver on a host, for that host."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with resolving(host), running(host.command(*command(_ADDRESS, _MANAGEMENT, 53)), **quiet):
        for port in (53, _MANAGEMENT):
            wait_until(functools.partial(host.listens, port), f"port {port} is open")
        yield Dns(host)


@contextlib.contextmanager
def answering(host: Host, answer: Answer, over_tcp: Answer | None = None, address: str = _ADDRESS) -> Iterator[str]:
    """Let a host's nameserver make its answers of the queries' bytes, over TCP only if told how; yield resolv.conf."""
    with host.inside(), resolving(host, address) as resolv_conf, contextlib.ExitStack() as stack:
        stack.enter_context(_serving(_Udp((address, 53), answer)))
        if over_tcp:
            stack.enter_context(_serving(_Tcp((address, 53), over_tcp)))
        yield resolv_conf


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="nameserver")
    with server:
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Udp(socketserver.UDPServer):
    def __init__(self, address: tuple[str, int], answer: Answer) -> None:
        self.answer = answer
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Datagram)


class _Tcp(socketserver.TCPServer):
    def __init__(self, address: tuple[str, int], answer: Answer) -> None:
        self.answer = answer
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Stream)


class _Datagram(socketserver.BaseRequestHandler):
    server: _Udp

    def handle(self) -> None:
        query, udp = self.request
        udp.sendto(self.server.answer(query), self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    server: _Tcp

    def handle(self) -> None:
        reply = self.server.answer(self.rfile.read(int.from_bytes(self.rfile.read(2), "big")))
        self.wfile.write(struct.pack("!H", len(reply)) + reply)
