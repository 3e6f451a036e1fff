"""Running programs for the traffic control hooks on frames of one's own: BPF_PROG_TEST_RUN."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from certbot_standalone_nfq.capture.ebpf import records, system
from certbot_standalone_nfq.capture.ebpf.attachment import Direction
from certbot_standalone_nfq.capture.ebpf.layout import WATCHED
from certbot_standalone_nfq.capture.ebpf.maps import RING_BYTES, Maps
from certbot_standalone_nfq.capture.ebpf.memory import may_lock_more
from certbot_standalone_nfq.capture.ebpf.pending import Pending
from certbot_standalone_nfq.capture.ebpf.programs import Programs
from certbot_standalone_nfq.capture.ebpf.records import TakenPacket
from certbot_standalone_nfq.capture.ebpf.ring import Ring
from certbot_standalone_nfq.capture.ebpf.system import Command
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment, write
from lab.hosts import Host

_LONGEST = 1 << 16
ETHERNET = bytes(12)


@dataclass(frozen=True)
class Run:
    """What a program did with a frame."""

    verdict: int
    frame: bytes
    nanoseconds: int
    """On average, where it ran several times."""


def run(program: int, frame: bytes, repeat: int = 1) -> Run:
    """Run a program, given its descriptor."""
    given = ctypes.create_string_buffer(frame, len(frame))
    result = ctypes.create_string_buffer(_LONGEST)
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "=4I2Q2I",
            *(program, 0, len(frame), len(result), system.address(given), system.address(result), repeat, 0),
        )
    )
    system.call_with(system.Command.PROG_TEST_RUN, attributes)
    _, verdict, _, length, _, _, _, nanoseconds = struct.unpack_from("=Ii2I2Q2I", attributes)
    return Run(verdict, result.raw[:length], nanoseconds)


def framed(packet: bytes) -> bytes:
    """Return an IP packet behind an Ethernet header."""
    return ETHERNET + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


@dataclass(frozen=True)
class Outcome:
    """What became of a packet."""

    verdict: int
    packet: bytes
    """As it goes on."""
    taken: list[TakenPacket]
    """What was handed over."""
    watched: bool
    """Whether its connection is watched."""


class Bench:
    """The programs of a capture, and their maps, without interfaces."""

    def __init__(self, selectors: Sequence[Selector]) -> None:
        self.ports = itertools.count(1024)
        """For clients, each of which no packet has come from before."""
        with contextlib.ExitStack() as opened:
            self.maps = _maps()
            opened.callback(self.maps.close)
            self.programs = Programs(selectors, self.maps)
            opened.callback(self.programs.close)
            self._ring = Ring(self.maps.ring, RING_BYTES)
            opened.callback(self._ring.close)
            self._pending = Pending(self.maps.pending, selectors)
            self.close = opened.pop_all().close

    def expect(self, *keys: bytes) -> None:
        """Have keys pending, and no others."""
        self._pending.replace(keys)

    def open_connection(self, segment: Segment) -> None:
        """Have a connection exist whose first request this is: its SYN-ACK leaves."""
        syn_ack = Segment(
            source=segment.destination,
            source_port=segment.destination_port,
            destination=segment.source,
            destination_port=segment.source_port,
            seq=segment.ack - 1 & 0xFFFFFFFF,
            ack=segment.seq,
            flags=Flags.SYN | Flags.ACK,
            window=0,
        )
        run(self.programs.egress(14), framed(write(syn_ack)))

    def send(self, packet: bytes, link_header: int = 14) -> Outcome:
        """Have a packet arrive."""
        ran = run(self.programs.ingress(link_header), framed(packet))
        taken = [found for record in self._ring.read(16) for found in records.read(record)]
        watched = self.maps.watched.get(key_of(packet)) if len(packet) >= 40 else None
        return Outcome(ran.verdict, ran.frame[14:], taken, watched is not None and len(watched) == WATCHED.size)


def _maps() -> Maps:
    """Make maps, with as much memory as that takes."""
    try:
        return Maps()
    except PermissionError:
        if not may_lock_more():
            raise
    return Maps()


def key_of(packet: bytes) -> bytes:
    """Return what the maps know a packet's connection by."""
    if packet[0] >> 4 == 6:
        return packet[8:44]
    begin = (packet[0] & 15) * 4
    return packet[12:20] + bytes(24) + packet[begin : begin + 4]


@contextlib.contextmanager
def bench(selectors: Sequence[Selector]) -> Iterator[Bench]:
    """Load the programs that capture what selectors select."""
    with contextlib.closing(Bench(selectors)) as made:
        yield made


class Call(Protocol):
    """The system call."""

    def __call__(self, command: Command, attributes: bytes) -> int:
        """Make it. Raises OSError."""


def without_tcx(call: Call) -> Call:
    """Return a system call of a kernel that knows no links of TCX, as before Linux 6.6."""

    def refuse(command: Command, attributes: bytes) -> int:
        if command is Command.LINK_CREATE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return call(command, attributes)

    return refuse


def attached(host: Host) -> list[str]:
    """Return what programs there are at the traffic control hooks of a host, whoever attached them."""
    found = []
    with host.inside():
        for index, name in socket.if_nameindex():
            found += [f"{name} {hook.name}" for hook in Direction for _ in range(_count(index, hook.value[0]))]
            for hook in Direction:
                filters = host.run("tc", "filter", "show", "dev", name, hook.name.lower()).splitlines()
                found += [f"{name} {line}" for line in filters if " bpf " in line and " handle " in line]
    return found


def _count(index: int, hook: int) -> int:
    """Return how many programs are at a hook by links; none, where the kernel knows none."""
    attributes = ctypes.create_string_buffer(
        struct.pack("=4IQ2I32x", index, hook, 0, 0, 0, 0, 0)
    )  # all that it may write to
    with contextlib.suppress(OSError):
        system.call_with(system.Command.PROG_QUERY, attributes)
    return int(struct.unpack_from("=I", attributes, 24)[0])
