"""Packets kept for a capture file, as Wireshark and tcpdump read it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from certbot_standalone_nfq.session import private_file
from certbot_standalone_nfq.wire.layers import RawPcapWriter

MAX_PACKETS = 20_000
"""Packets; further ones are not kept."""
_LINKTYPE_RAW = 101  # packets begin with their IPv4 or IPv6 header: https://www.tcpdump.org/linktypes.html


class Recording:
    """Packets with their times, in whatever order they come. For use by several threads."""

    def __init__(self, path: Path) -> None:
        """Make sure that the file can be written. Raises OSError."""
        self._path = path
        self._lock = threading.Lock()
        self._packets: list[tuple[float, bytes]] = []
        private_file.check(path)

    def add(self, packet: bytes, seconds: float | None = None) -> None:
        """Keep a packet, given from its IP header on, and when it was seen, in seconds since the epoch."""
        with self._lock:
            if len(self._packets) < MAX_PACKETS:
                self._packets.append((time.time() if seconds is None else seconds, bytes(packet)))

    def write(self) -> None:
        """Write what there is, in the order of time, to a new file in place of the old one. Raises OSError."""
        with self._lock:
            packets = sorted(self._packets)
        with private_file.replacing(self._path) as file:
            writer = RawPcapWriter(file, linktype=_LINKTYPE_RAW)
            writer.write_header(b"")
            for seconds, packet in packets:
                whole = int(seconds)
                writer.write_packet(packet, sec=whole, usec=int((seconds - whole) * 1e6))
            writer.flush()
