"""Packets captured by NFQUEUE, from the opening to the end: what verdicts are to the kernel."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from typing import ClassVar

from certbot_standalone_nfq.capture.nfqueue import state
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation
from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict, QueuedPacket
from certbot_standalone_nfq.capture.nfqueue.queue import PacketQueue
from certbot_standalone_nfq.capture.nfqueue.rule_writer import Rules, State
from certbot_standalone_nfq.capture.protocols import WayBack
from certbot_standalone_nfq.engine.verdicts import Verdict

_SECONDS_TO_PASS = 0.5
"""How long packets may take that wait when the queue is abandoned. Under load, more come meanwhile."""
_PAUSE = 0.001
"""Seconds in which the client may receive more: fnfqueue does so on a thread of its own."""


class NfqueueCapture:
    """A bound queue and the rules that send packets to it."""

    by_rules: ClassVar[bool] = True

    def __init__(
        self, name: str, allocation: Allocation, queue: PacketQueue, rules: Rules, held: contextlib.ExitStack
    ) -> None:
        """Take what has been opened, and what undoes it, for `close`."""
        self.name = name
        """The backend's."""
        self.allocation = allocation
        self._queue = queue
        self._rules = rules
        self._held = held
        self._abandoned = False

    def fileno(self) -> int:
        """Return a descriptor that is readable when `receive` has something."""
        return self._queue.fileno()

    def receive(self) -> list[QueuedPacket]:
        """Return packets that have come, without waiting."""
        return self._queue.receive()

    def decide(self, packet: QueuedPacket, verdict: Verdict, replacement: bytes | None = None) -> None:
        """Give a packet its one verdict. Raises OSError."""
        if verdict is Verdict.DROP:
            self._queue.give_verdict(packet.id, KernelVerdict.DROP)
        elif verdict is Verdict.REPLACE:
            # Accepted, not repeated: what leaves by the end of our rules has its connection's mark cleared.
            self._queue.give_verdict(packet.id, KernelVerdict.ACCEPT, payload=replacement)
        elif self._rules.state in (State.ABSENT, State.WITHDRAWN):
            self._queue.give_verdict(packet.id, KernelVerdict.REPEAT)  # the rules that would clear our mark are gone
        else:
            self._queue.give_verdict(packet.id, KernelVerdict.REPEAT, mark=self._released(packet.mark, verdict))

    def expect(self, keys: Collection[bytes]) -> None:
        """Change nothing: rules select by the beginning of requests alone."""

    def way_back(self, packet: QueuedPacket) -> WayBack | None:  # noqa: ARG002 - it is the same for all
        """Return None: conntrack has to see the answers."""
        return None

    def restore(self) -> bool:
        """Add the rules again if another program removed them; see Capture. Return whether they were missing."""
        return self._rules.restore()

    def withdraw(self) -> None:
        """Send no further packets to the queue. Raises one of the package's errors; packets then still come."""
        self._rules.withdraw()

    def abandon(self) -> None:
        """Unbind the queue, which the rules bypass then. What waits passes before: it would be dropped."""
        if not self._abandoned:
            self._abandoned = True
            with contextlib.suppress(OSError):
                self._let_pass()
            self._queue.close()

    def _let_pass(self) -> None:
        deadline = time.monotonic() + _SECONDS_TO_PASS
        while state.waiting_packets() and time.monotonic() < deadline:
            for packet in self.receive():
                self.decide(packet, Verdict.PASS)
            time.sleep(_PAUSE)

    def close(self) -> None:
        """Remove the rules, dismiss the watchdog and unbind the queue.

        Raises one of the package's errors if the rules cannot be removed. They are harmless then, as a queue without
        a listener is bypassed, and the watchdog removes them when this process ends.
        """
        self._held.close()

    def _released(self, mark: int, verdict: Verdict) -> int:
        """Return the mark with which our rules let a packet go: with WATCH, they keep its connection's mark."""
        marks = self.allocation.marks
        watched = marks.connection if verdict is Verdict.WATCH else 0
        return mark & ~marks.both | marks.released | watched
