"""The maps that a capture's programs share with it."""

from __future__ import annotations

import contextlib
import secrets
import struct

from certbot_standalone_nfq.capture.ebpf import layout
from certbot_standalone_nfq.capture.ebpf.system import Map, MapType

MAX_PENDING = 4096
MAX_TAKEN = 8192
MAX_WATCHED = 4096
PLACE_BITS = 11
"""Of the number of a place for handshakes."""
RING_BYTES = 1 << 22
LASTING_RING_BYTES = 1 << 18
"""For a service: it is mapped twice, and counts as memory of the process."""
NAME_BYTES = 64
"""Of a pending key; shorter ones are filled up with zeros."""


class Maps:
    """Maps, until `close`."""

    def __init__(self, ring_bytes: int = RING_BYTES) -> None:
        """Make them. Raises OSError, with nothing left."""
        with contextlib.ExitStack() as opened:

            def made(kind: MapType, key: int, value: int, entries: int) -> Map:
                map_ = Map(kind, key, value, entries)
                opened.callback(map_.close)
                return map_

            connection = layout.CONNECTION_BYTES
            self.pending = made(MapType.HASH, NAME_BYTES, layout.PENDING.size, MAX_PENDING)
            self.taken = made(MapType.HASH, connection, 8, MAX_TAKEN)
            """Not LRU: requests of strangers must not displace a connection that we have to go on with."""
            self.watched = made(MapType.LRU_HASH, connection, layout.WATCHED.size, MAX_WATCHED)
            place = layout.FIRST_HANDSHAKE_AT + layout.HANDSHAKES * layout.HANDSHAKE.size
            self.handshakes = made(MapType.ARRAY, 4, place, 1 << PLACE_BITS)
            self.multipliers = [secrets.randbits(64) for _ in range(2 + connection // 4)]
            """Of the hash that tells a connection's place, which strangers must not know."""
            self.control = made(MapType.ARRAY, 4, layout.CONTROL.size, 1)
            self.scanned = made(MapType.PERCPU_ARRAY, 4, layout.SCANNED_BYTES, 1)
            self.heads = made(MapType.PERCPU_ARRAY, 4, layout.HEAD_ROOM, 1)
            self.masks = made(MapType.ARRAY, 4, layout.START_BYTES, layout.START_BYTES + 1)
            """By a number of bytes: a mask of that many."""
            for length in range(layout.START_BYTES + 1):
                self.masks[struct.pack("=I", length)] = (b"\xff" * length).ljust(layout.START_BYTES, b"\0")
            self.ring = made(MapType.RINGBUF, 0, 0, ring_bytes)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close our descriptors; the maps go with the last program that uses them."""
        self._opened.close()
