"""Accepting connections where no web server does: somebody has to, for a request to come at all.

It listens at those addresses of the port that nobody else has, as long as challenges are pending, by Certbot's own
server for http-01. Requests for pending tokens are taken over before they get to it, as from any web server; it
can answer them, too. A server that begins meanwhile and is able to share the port (SO_REUSEPORT) gets it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import socketserver
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from acme.challenges import HTTP01, HTTP01Response
from acme.standalone import HTTP01RequestHandler, HTTP01Server

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import kernel_modules, service
from certbot_standalone_nfq.host.addresses import own_addresses
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.firewall import reader
from certbot_standalone_nfq.host.sockets import Listener, listeners
from certbot_standalone_nfq.wire.addresses import VERSIONS, version_of

logger = logging.getLogger(__name__)

Resource = HTTP01RequestHandler.HTTP01Resource

_ANYWHERE = {4: "0.0.0.0", 6: "::"}
_SECONDS_FOR_RULES = 2.0
_SECONDS_BETWEEN_LOOKS = 0.1
_MAX_CONNECTIONS = 128
"""To one address; each takes a file descriptor, of which Certbot may have a thousand."""
_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class _Server(socketserver.ThreadingMixIn, HTTP01Server):
    """Certbot's server at one address, for as many clients at once as there are."""

    request_queue_size = 1024
    daemon_threads = True
    block_on_close = False
    allow_reuse_port = False

    def __init__(self, address: str, port: int, resources: set[Any]) -> None:
        self._connections: OrderedDict[Any, None] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__((address, port), resources, ipv6=version_of(address) == 6)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind for one family alone, and only if nobody is there; from then on, let another server in."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        socketserver.TCPServer.server_bind(self)  # that of HTTPServer would look the host's name up
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own; the oldest makes room if there are many."""
        oldest = None
        with self._lock:
            self._connections[request] = None
            if len(self._connections) > _MAX_CONNECTIONS:
                oldest, _ = self._connections.popitem(last=False)
        if oldest:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Note in the log what is usual: a client, or the interception, has reset the connection."""
        logger.debug("A connection of %s ended early", client_address, exc_info=True)

    @property
    def address(self) -> str:
        """The address it is bound to."""
        return str(self.server_address[0])

    @property
    def inode(self) -> int:
        """The socket's inode, which the kernel lists it by."""
        return os.fstat(self.fileno()).st_ino

    def end(self) -> None:
        """Accept no more; return when nothing of it is left but connections under way."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class FallbackListener:
    """Listens from its making until `stop`, at as many addresses as nobody else does: often at none."""

    def __init__(self, port: int, address: str = "") -> None:
        """Begin, at one address alone if it is given. Whatever fails is said in the log, and is no error."""
        self._resources: set[Resource] = set()
        self._port = port
        self._servers: list[_Server] = []
        self._compatible: set[int] = set()
        """Inodes of others' sockets that leave us the addresses we have."""
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._give_way, daemon=True)
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._begin(address)
            undo.pop_all()
        if self._servers:
            logger.info(
                "Nothing else listens at %s, so Certbot accepts connections there until the validation is over.",
                ", ".join(_name(server) for server in self._servers),
            )
            self._watcher.start()

    def answer(self, chall: HTTP01, response: HTTP01Response, key_authorization: str) -> None:
        """Answer a challenge, should its request get here."""
        self._resources.add(Resource(chall, response, key_authorization))

    def stop(self) -> None:
        """Listen no more. Calling it again is no error."""
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join()
        while self._servers:
            self._servers.pop().end()

    def _begin(self, address: str) -> None:
        try:
            found = listeners(self._port)
            for version in _unserved(found, self._port, address):
                self._listen(version, address, found)
        except Exception as error:  # most machines have a web server, and then it makes no difference
            errors.raise_interruption(error)
            logger.warning("Cannot determine whether a web server listens on port %d: %s", self._port, error)

    def _listen(self, version: int, address: str, others: list[Listener]) -> None:
        """Listen at all addresses of an IP version, or at each that is free if somebody has one of them."""
        if self._listen_at(address or _ANYWHERE[version], others) or address:
            return
        for own in own_addresses(version):
            self._listen_at(own, others)

    def _listen_at(self, address: str, others: list[Listener]) -> bool:
        """Listen at an address, if the others that listen already leave it to us."""
        try:
            self._servers.append(_Server(address, self._port, self._resources))
            self._compatible.update(other.inode for other in others)
        except OSError as error:
            if error.errno not in _TAKEN:
                logger.warning(
                    "Nothing listens on port %d of %s, and Certbot cannot do so itself: %s. Start a web server there, "
                    "or run Certbot as root, with CAP_NET_BIND_SERVICE in a container.",
                    self._port,
                    address,
                    error.strerror,
                )
            return False
        return True

    def _give_way(self) -> None:
        """Make room wherever another server begins to listen."""
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            with contextlib.suppress(OSError):
                known = self._compatible | {server.inode for server in self._servers}
                others = [each for each in listeners(self._port) if each.inode not in known]
                for server in [each for each in self._servers if _is_crowded(each, others)]:
                    self._servers.remove(server)
                    server.end()
                    # Succeeds if only IPv6 has been taken, which cannot be told from its socket.
                    if not self._listen_at(server.address, others):
                        logger.info("Another server has begun to listen at %s, and has it now.", _name(server))


def _unserved(found: list[Listener], port: int, address: str) -> Iterator[int]:
    """Yield the IP versions by which some address may be served by nobody. Raises OSError."""
    versions = (version_of(address),) if address else VERSIONS
    open_ = [version for version in versions if not _is_served(found, version, address)]
    if not open_:
        return
    translations = _translations(port)
    for version in open_:
        if version in translations:
            logger.debug("Rules lead port %d elsewhere over IPv%d: %s", port, version, translations[version].text)
        else:
            yield version


def _is_served(found: list[Listener], version: int, address: str) -> bool:
    """Tell whether a listener has an address, or all of an IP version, for sure."""
    if address:
        return any(listener.version == version and listener.serves(address) for listener in found)
    return any(listener.version == version and listener.anywhere for listener in found)


def _translations(port: int) -> dict[int, Any]:
    """Return the rules that lead the port elsewhere, such as those that publish a container's, by IP version."""
    deadline = Deadline(_SECONDS_FOR_RULES)
    nf_tables = kernel_modules.inventory().presence(kernel_modules.NF_TABLES)
    return service.service(port, reader.read_rules(reader.variants(deadline), nf_tables, deadline)).translations


def _is_crowded(server: _Server, others: list[Listener]) -> bool:
    """Tell whether somebody else may take connections that this server does; who has [::] may serve IPv4, too."""
    version = 6 if server.ipv6 else 4
    if server.address != _ANYWHERE[version]:
        return any(other.serves(server.address) for other in others)
    return any(
        other.version == version or (other.version == 6 and other.anywhere) for other in others if not other.loopback
    )


def _name(server: _Server) -> str:
    port = server.server_address[1]
    return f"[{server.address}]:{port}" if server.ipv6 else f"{server.address}:{port}"
