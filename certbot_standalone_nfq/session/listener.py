"""Listening where no server does: without a listener no connection is made, and no request comes.

It listens at those addresses of the port that no other program has, as long as challenges are pending. Requests for
pending challenges are taken over before they get to it, as from any server; it can answer them, too. A server that
begins meanwhile and is able to share the port (SO_REUSEPORT) gets it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host.addresses import own_addresses
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import translations
from certbot_standalone_nfq.host.sockets import Listener, Lookout
from certbot_standalone_nfq.session import datagrams
from certbot_standalone_nfq.session.acceptor import Acceptor, Answering, Limits
from certbot_standalone_nfq.wire.addresses import VERSIONS, version_of

logger = logging.getLogger(__name__)

_ANYWHERE = {4: "0.0.0.0", 6: "::"}
_SECONDS_BETWEEN_LOOKS = 0.1
_JOIN_SECONDS = 5.0
_BACKLOG = 1024
_KINDS = {socket.IPPROTO_TCP: socket.SOCK_STREAM, socket.IPPROTO_UDP: socket.SOCK_DGRAM}
_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class _Place:
    """An address that is listened at."""

    def __init__(self, address: str, port: int, protocol: int) -> None:
        """Listen, for one IP version alone, and only if no other program does. Raises OSError."""
        self.version = version_of(address)
        self.address = address
        shown = f"[{address}]:{port}" if self.version == 6 else f"{address}:{port}"
        self.name = f"{shown} (UDP)" if protocol == socket.IPPROTO_UDP else shown
        family = socket.AF_INET6 if self.version == 6 else socket.AF_INET
        self.socket = socket.socket(family, _KINDS[protocol], protocol)
        try:
            if self.version == 6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._listen(port)
        except BaseException:
            self.socket.close()
            raise

    def _listen(self, port: int) -> None:
        datagrams_only = self.socket.type == socket.SOCK_DGRAM
        if not datagrams_only:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((self.address, port))
        # Only now: before, it would let us bind where another server listens. From here on, another may join.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if datagrams_only:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            datagrams.tell_destinations(self.socket)
        else:
            self.socket.listen(_BACKLOG)

    @property
    def inode(self) -> int:
        """The socket's inode, which the kernel lists it by."""
        return os.fstat(self.socket.fileno()).st_ino

    def is_crowded_by(self, others: list[Listener]) -> bool:
        """Whether others may take connections that are made here; one that has [::] may serve IPv4, too."""
        if self.address != _ANYWHERE[self.version]:
            return any(other.serves(self.address) for other in others)
        return any(
            other.version == self.version or (other.version == 6 and other.anywhere)
            for other in others
            if not other.loopback
        )


class FallbackListener:
    """Listens from `start` to `stop`, at those addresses that no other program has: often at none."""

    def __init__(  # noqa: PLR0913 - where to listen, and what to say
        self,
        port: int,
        address: str,
        rules: Snapshot,
        answering: Answering,
        limits: Limits | None = None,
        *,
        protocol: int = socket.IPPROTO_TCP,
    ) -> None:
        """Prepare, for one address alone if it is given, and the rules of other programs. This changes nothing."""
        self._port = port
        self._protocol = protocol
        self._address = address
        self._rules = rules
        self._answering = answering
        self._limits = limits
        self._acceptor: Acceptor
        self._lookout: Lookout
        self._held = contextlib.ExitStack()
        self._places: list[_Place] = []
        self._compatible: set[int] = set()
        """Inodes of sockets of other programs that leave us the addresses we have."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="standalone-nfq-listener", daemon=True)

    def start(self) -> None:
        """Listen. Whatever fails is logged, and is no error."""
        self._acceptor = Acceptor(self._answering, self._limits)
        self._held.callback(self._acceptor.close)
        self._lookout = Lookout(self._port, self._protocol)
        self._held.callback(self._lookout.close)
        try:
            found = self._lookout.look()
            for version in self._unserved(found):
                self._listen(version, found)
        except Exception as error:  # most machines have a web server, and then it makes no difference
            errors.raise_interruption(error)
            logger.warning("Cannot determine whether a web server listens on port %d: %s", self._port, error)
        if self._places:
            logger.info(
                "Nothing else listens at %s, so Certbot accepts %s there until the validation is over.",
                ", ".join(place.name for place in self._places),
                "datagrams" if self._protocol == socket.IPPROTO_UDP else "connections",
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop listening, and close all connections. Calling it again, or without `start`, is no error."""
        self._stopping = True
        if self._thread.is_alive():
            self._acceptor.wake()
            self._thread.join(_JOIN_SECONDS)
        self._held.close()

    def _unserved(self, found: list[Listener]) -> Iterator[int]:
        """Yield the IP versions over which nothing may serve some address, nor a rule redirects the port."""
        for version in (version_of(self._address),) if self._address else VERSIONS:
            if _is_served(found, version, self._address):
                continue
            redirecting = translations(self._rules.over(Transport(self._protocol)), self._port, version)
            if redirecting:
                logger.debug("Rules redirect port %d over IPv%d: %s", self._port, version, redirecting[0].text)
            else:
                yield version

    def _listen(self, version: int, others: list[Listener]) -> None:
        """Listen at all addresses of an IP version, or at each that is free if others have some of them."""
        if self._listen_at(self._address or _ANYWHERE[version], others) or self._address:
            return
        for own in own_addresses(version):
            self._listen_at(own, others)

    def _listen_at(self, address: str, others: list[Listener]) -> bool:
        """Listen at an address, if the others that listen already leave it to us."""
        try:
            place = _Place(address, self._port, self._protocol)
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
        self._acceptor.add(place.socket)
        self._places.append(place)
        self._compatible.update(other.inode for other in others)
        return True

    def _run(self) -> None:
        try:
            self._serve_until_stopped()
        except Exception as error:
            errors.raise_interruption(error)
            logger.warning("Certbot no longer accepts connections to port %d: %s", self._port, error, exc_info=True)
            self._acceptor.close()

    def _serve_until_stopped(self) -> None:
        look_at = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        while not self._stopping:
            self._acceptor.serve(max(0.0, look_at - time.monotonic()))
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                with contextlib.suppress(OSError):
                    self._give_way()

    def _give_way(self) -> None:
        """Stop listening wherever another server has begun to listen."""
        known = self._compatible | {place.inode for place in self._places}
        others = [each for each in self._lookout.look() if each.inode not in known]
        for place in [each for each in self._places if each.is_crowded_by(others)]:
            self._places.remove(place)
            self._acceptor.remove(place.socket)
            # Succeeds if the other server took only IPv6, which its socket does not show.
            if not self._listen_at(place.address, others):
                logger.info("Another server now listens on %s; Certbot stopped listening there.", place.name)


def _is_served(found: list[Listener], version: int, address: str) -> bool:
    """Whether a listener certainly has an address, or all addresses of an IP version."""
    if address:
        return any(listener.version == version and listener.serves(address) for listener in found)
    return any(listener.version == version and listener.anywhere for listener in found)
