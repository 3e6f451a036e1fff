"""Where and how the answers of taken-over connections have to be sent.

A server's packet to a client whose address was translated (SNAT, MASQUERADE) goes to the address that the server saw,
and conntrack translates it back. We see the client's packets before that address is put in, and have to ask for it.

Behind SYNPROXY, conntrack also changes the numbers in the server's packets, and so in ours: we know those that the
client sees, and undo the change in advance.

Where the kernel has servers' packets inherit the mark of their client's (tcp_fwmark_accept), ours have that mark: the
route may depend on it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from certbot_standalone_nfq.capture.protocols import WayBack
from certbot_standalone_nfq.engine.engine import MAX_TAKEN_OVER
from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host import conntrack
from certbot_standalone_nfq.host.conntrack import Tracked
from certbot_standalone_nfq.session.limited_log import LimitedLog
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Connection, Segment
from certbot_standalone_nfq.wire.udp import Datagram

logger = logging.getLogger(__name__)

_FWMARK_ACCEPT = Path("/proc/sys/net/ipv4/tcp_fwmark_accept")


class _Path(NamedTuple):
    tracked: Tracked
    mark: int = 0
    way: WayBack | None = None


class Addressed(NamedTuple):
    """A segment to be sent."""

    segment: Segment
    mark: int = 0
    """The mark that it must have."""
    way: WayBack | None = None
    """How it leaves, if the capture knows; else as packets of this machine do."""


class ReturnPaths:
    """The return path of each connection whose answers must not be sent to its client's own address."""

    def __init__(self, find: Callable[[Connection, int], Tracked | None] = conntrack.find) -> None:
        self._find = find
        self._log = LimitedLog(logger)
        self._paths: OrderedDict[Connection, _Path] = OrderedDict()

    def learn(
        self, connection: Connection, mark: int = 0, *, forwarded: bool = False, way: WayBack | None = None
    ) -> None:
        """Look up the path of a connection that is being taken over, while the kernel still knows it.

        Its client's packets have the mark; they are `forwarded` if the server's socket is not on this machine. If the
        capture knows the way, nothing is left to look up.
        """
        direct = Tracked(*connection[:2])
        if way:
            path = _Path(direct, way=way)
        else:
            inherited = mark if mark and not forwarded and _marks_are_inherited() else 0
            path = _Path(self._look_up(connection, Transport.TCP) or direct, inherited)
        self._paths.pop(connection, None)
        if path != _Path(direct):
            self._paths[connection] = path
            if len(self._paths) > MAX_TAKEN_OVER:
                self._paths.popitem(last=False)

    def _look_up(self, connection: Connection, transport: Transport) -> Tracked | None:
        try:
            return self._find(connection, transport)
        except OSError as error:
            self._log.debug("Connection tracking does not show %s: %s", connection, error)
            return None

    def address(self, segment: Segment) -> Addressed:
        """Return a segment to a client as it has to be sent."""
        path = self._paths.get(
            Connection(segment.destination, segment.destination_port, segment.source, segment.source_port)
        )
        if path is None:
            return Addressed(segment)
        return Addressed(_translated(segment, path.tracked), path.mark, path.way)

    def address_reply(self, reply: Datagram) -> Datagram:
        """Return the reply to a datagram as it has to be sent, once the kernel knows the datagram's flow."""
        flow = Connection(reply.destination, reply.destination_port, reply.source, reply.source_port)
        tracked = self._look_up(flow, Transport.UDP) or Tracked(*flow[:2])
        return dataclasses.replace(reply, destination=tracked.reply_address, destination_port=tracked.reply_port)


def _translated(segment: Segment, tracked: Tracked) -> Segment:
    stamps = segment.timestamps
    return dataclasses.replace(
        segment,
        destination=tracked.reply_address,
        destination_port=tracked.reply_port,
        seq=advance(segment.seq, -tracked.sequence_offset),
        timestamps=stamps and stamps._replace(value=advance(stamps.value, tracked.timestamp_offset)),
    )


def _marks_are_inherited() -> bool:
    """Whether a server's socket has the mark of its client's packets; this is IPv6's setting too."""
    try:
        return _FWMARK_ACCEPT.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
