"""Packets captured by programs at the interfaces, from the opening to the end.

What becomes of a packet is decided in the kernel, as no packet waits for us. Which connections are taken, the session
decides: the programs only carry it out, until they are told that it is over.
"""

from __future__ import annotations

import contextlib
import logging
import select
import struct
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import ClassVar

from certbot_standalone_nfq.capture.ebpf import records
from certbot_standalone_nfq.capture.ebpf.interfaces import Interfaces
from certbot_standalone_nfq.capture.ebpf.layout import CONTROL, Kind
from certbot_standalone_nfq.capture.ebpf.maps import LASTING_RING_BYTES, MAX_TAKEN, RING_BYTES, Maps
from certbot_standalone_nfq.capture.ebpf.pending import Pending
from certbot_standalone_nfq.capture.ebpf.programs import Programs
from certbot_standalone_nfq.capture.ebpf.records import TakenPacket
from certbot_standalone_nfq.capture.ebpf.ring import Ring
from certbot_standalone_nfq.capture.ebpf.ways_back import WayBack, WaysBack
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.engine.verdicts import Verdict

logger = logging.getLogger(__name__)

_READ_AT_ONCE = 64
_ONLY = struct.pack("=I", 0)
"""The key of an array's only value."""


class EbpfCapture:
    """Programs on the interfaces that matter, and the ring that they write to."""

    by_rules: ClassVar[bool] = False

    def __init__(self, selectors: Sequence[Selector], held: contextlib.ExitStack, *, lasting: bool = False) -> None:
        """Capture what the selectors select. All or nothing: raises OSError, and errors.CaptureUnavailable.

        `held` is what `close` closes.
        """
        self._taken: OrderedDict[bytes, None] = OrderedDict()
        self._guard = threading.RLock()
        """Held while interfaces are attached to or left."""
        self._attached: Interfaces | None = None
        self._held = held
        with contextlib.ExitStack() as undo:
            undo.push(held)
            ring_bytes = LASTING_RING_BYTES if lasting else RING_BYTES
            self._maps = Maps(ring_bytes)
            held.callback(self._maps.close)
            self._pending = Pending(self._maps.pending, selectors)
            self._ring = Ring(self._maps.ring, ring_bytes)
            held.callback(self._ring.close)
            self._poll = held.enter_context(select.epoll())
            self._poll.register(self._maps.ring.descriptor, select.EPOLLIN)
            self._ways = WaysBack()
            held.callback(self._ways.close)
            programs = Programs(selectors, self._maps)
            held.callback(programs.close)
            self._attached = Interfaces(programs)
            held.callback(self.withdraw)
            self._attached.attach()
            self._poll.register(self._attached.fileno(), select.EPOLLIN)
            held.callback(self._report_losses)
            undo.pop_all()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `receive` has something."""
        return self._poll.fileno()

    def receive(self) -> list[TakenPacket]:
        """Return packets that have come, without waiting; look after the interfaces, too."""
        with self._guard:
            if self._attached and any(ready == self._attached.fileno() for ready, _ in self._poll.poll(0)):
                self._attached.follow()
        packets = [packet for record in self._ring.read(_READ_AT_ONCE) for packet in records.read(record)]
        for packet in packets:
            if packet.kind is Kind.MORE:
                self._ways.follow(packet)
            elif packet.kind is not Kind.DATAGRAM:
                self._note_taken(packet.connection)
        return packets

    def decide(
        self,
        packet: TakenPacket,
        verdict: Verdict,
        replacement: bytes | None = None,  # noqa: ARG002 - the program has put a reset in the packet's place
    ) -> None:
        """Have later packets of a connection pass if the session knows nothing of it. Raises OSError.

        The packet itself has been dropped, and comes again: it opens a new connection, for example.
        """
        if verdict is Verdict.PASS and packet.kind is Kind.MORE and packet.well_formed:
            self._taken.pop(packet.connection, None)
            self._maps.taken.discard(packet.connection)

    def expect(self, keys: Collection[bytes]) -> None:
        """Take only requests with these keys from now on. Raises OSError."""
        self._pending.replace(keys)

    def way_back(self, packet: TakenPacket) -> WayBack | None:
        """Return how the answers to a packet's connection leave; None if to this machine. Raises OSError."""
        return self._ways.of(packet)

    def restore(self) -> bool:
        """Return that nothing was ended: programs stay as long as their interfaces."""
        return False

    def withdraw(self) -> None:
        """Detach from the interfaces."""
        with self._guard:
            if self._attached:
                self._attached.close()
            self._attached = None

    def abandon(self) -> None:
        """Likewise: so all packets pass."""
        self.withdraw()

    def close(self) -> None:
        """Detach, and close everything. Calling it again is no error."""
        self._held.close()

    def _note_taken(self, connection: bytes) -> None:
        """Make room for new connections: that taken first is forgotten by the session, too."""
        self._taken[connection] = None
        if len(self._taken) > MAX_TAKEN // 2:
            first, _ = self._taken.popitem(last=False)
            self._maps.taken.discard(first)

    def _report_losses(self) -> None:
        *_, lost = CONTROL.unpack(self._maps.control.get(_ONLY) or bytes(CONTROL.size))
        if lost:
            logger.info("%d packets of challenge requests found no room, and passed or came again.", lost)
