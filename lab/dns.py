"""A DNS that a host's programs ask: pebble-challtestsrv at its port 53, and a resolv.conf of the host's own."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import running, wait_until

_ADDRESS = "127.0.0.1"
_MANAGEMENT = 8056


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
def resolving(host: Host, nameserver: str = _ADDRESS) -> Iterator[None]:
    """Let programs that are run on a host ask a certain nameserver, as `ip netns exec` arranges it."""
    folder = Path("/etc/netns") / host.name
    parent_was_there = folder.parent.exists()
    folder.mkdir(parents=True)
    try:
        (folder / "resolv.conf").write_text(f"nameserver {nameserver}\n")
        yield
    finally:
        shutil.rmtree(folder)
        if not parent_was_there:
            with contextlib.suppress(OSError):  # another run has put its own there meanwhile
                folder.parent.rmdir()


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
def answering(host: Host, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Let a host's nameserver be one that makes its answers of the queries' bytes."""

    def serve() -> None:
        while True:
            query, client = nameserver.recvfrom(4096)
            if not query:
                return
            nameserver.sendto(answer(query), client)

    with host.inside(), resolving(host):
        nameserver, stopper = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with nameserver, stopper:
            nameserver.bind(("127.0.0.1", 53))
            thread = threading.Thread(target=serve, name="nameserver")
            thread.start()
            try:
                yield
            finally:
                stopper.sendto(b"", nameserver.getsockname())
                thread.join()
