"""Where the answers of taken-over connections have to be sent.

A server's packet to a client whose address was translated (SNAT, MASQUERADE) goes to the address that the server saw,
and conntrack translates it back. We see the client's packets before that address is put in, and have to ask for it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable

from certbot_standalone_nfq.engine.engine import MAX_TAKEN_OVER
from certbot_standalone_nfq.host import conntrack
from certbot_standalone_nfq.host.conntrack import Tracked
from certbot_standalone_nfq.wire.tcp import Connection, Segment

logger = logging.getLogger(__name__)


class ReturnPaths:
    """The return path of each connection whose answers must not be sent to its client's own address."""

    def __init__(self, find: Callable[[Connection], Tracked | None] = conntrack.find) -> None:
        self._find = find
        self._translated: OrderedDict[Connection, Tracked] = OrderedDict()

    def learn(self, connection: Connection) -> None:
        """Look up the path of a connection that is being taken over, while the kernel still knows it."""
        self._translated.pop(connection, None)
        try:
            tracked = self._find(connection)
        except OSError as error:
            logger.debug("Connection tracking does not show %s: %s", connection, error)
            return
        if tracked and (tracked.reply_address, tracked.reply_port) != connection[:2]:
            self._translated[connection] = tracked
            if len(self._translated) > MAX_TAKEN_OVER:
                self._translated.popitem(last=False)

    def address(self, segment: Segment) -> Segment:
        """Return a segment to a client as it has to be sent."""
        client = Connection(segment.destination, segment.destination_port, segment.source, segment.source_port)
        tracked = self._translated.get(client)
        if tracked is None:
            return segment
        return dataclasses.replace(segment, destination=tracked.reply_address, destination_port=tracked.reply_port)
