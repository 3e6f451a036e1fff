"""A packet capture, as an independent witness."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scapy.layers.inet import TCP
from scapy.utils import rdpcap

from lab.hosts import Host
from lab.processes import end, is_asleep, running, wait_until


class Capture:
    """Packets on a host's interface; to be read after the capture's end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def wait_for(self, count: int) -> None:
        """Wait until so many segments have been written."""
        wait_until(lambda: len(self.segments()) >= count, f"{count} segments are captured")

    def segments(self) -> list[Any]:
        """Return the TCP packets, as scapy reads them, in the order they were seen."""
        return [packet for packet in rdpcap(str(self._path)) if TCP in packet]


def flags(segments: list[Any]) -> list[str]:
    """Return the flags of an exchange's segments, without the bare acknowledgments of the client.

    How many of these there are depends on how soon its program reads and closes.
    """
    server = segments[0]["TCP"].dport
    named = [(segment["TCP"].sport == server, str(segment["TCP"].flags)) for segment in segments]
    return [names for from_server, names in named if from_server or names != "A"]


@contextlib.contextmanager
def capture(host: Host, path: Path, filter_: str = "tcp port 80", interface: str = "eth0") -> Iterator[Capture]:
    """Capture on an interface; when the context begins, nothing is missed any more, nor when it ends."""
    command = host.command("tcpdump", "-i", interface, "-U", "-B", "16384", "-w", str(path), "--immediate-mode")
    with running([*command, "-Z", "root", filter_], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr
        for line in process.stderr:
            if "listening on" in line:
                break
        yield Capture(path)
        wait_until(lambda: is_asleep(process.pid), "what came has been written: tcpdump waits for more")
        end(process, signal.SIGINT)
