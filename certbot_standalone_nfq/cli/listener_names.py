"""The names of the programs that listen to a port."""

from __future__ import annotations

import socket
import time

from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.processes import socket_owners
from certbot_standalone_nfq.host.sockets import listeners

_OWNER_SECONDS = 0.5
_LISTENERS_SECONDS = 10.0


class ListenerNames:
    """The names of the programs that listen to a port, kept for some seconds."""

    def __init__(self, port: int, protocol: int = socket.IPPROTO_TCP) -> None:
        self._port = port
        self._protocol = protocol
        self._names: dict[str, str] = {}
        self._expires_at = 0.0

    def __call__(self, address: str) -> str:
        """Return what listens at an address."""
        if time.monotonic() > self._expires_at:
            self._names.clear()
            self._expires_at = time.monotonic() + _LISTENERS_SECONDS
        if address not in self._names:
            self._names[address] = _listener(self._port, self._protocol, address)
        return self._names[address]


def _listener(port: int, protocol: int, address: str) -> str:
    """Return the names of the programs that listen at an address, or why there is none."""
    serving = [listener for listener in listeners(port, protocol) if listener.serves(address)]
    if not serving:
        return "no listener here"
    owners = socket_owners({listener.inode for listener in serving}, Deadline(_OWNER_SECONDS))
    return ", ".join(sorted(set(owners.values()))) or "a program of another user"
