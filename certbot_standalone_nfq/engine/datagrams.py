"""Datagram in, decision out: what the engine does for challenges over TCP, for those over UDP.

Each datagram is a whole question, so there is nothing to remember of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certbot_standalone_nfq.engine.allowance import Allowance
from certbot_standalone_nfq.engine.protocols import DatagramSolver, Output, Transport
from certbot_standalone_nfq.engine.verdicts import Answered, Verdict
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.tcp import Connection
from certbot_standalone_nfq.wire.udp import Datagram, parse, without_effect

MAX_REPLIES_PER_SECOND = 2000
"""Datagrams that are answered; questions beyond it are dropped, and come again. The server would say that the name does
not exist, and that would be kept."""


@dataclass(frozen=True)
class DatagramReaction:
    """All that follows from one datagram."""

    verdict: Verdict
    replacement: bytes | None = None
    """With REPLACE, what goes on in its place: a firewall and connection tracking see it, and no socket does."""
    reply: Datagram | None = None
    event: Answered | None = None


_PASS = DatagramReaction(Verdict.PASS)
_DROP = DatagramReaction(Verdict.DROP)


class Datagrams:
    """What to do with each datagram. Times are seconds on the caller's monotonic clock."""

    def __init__(self, solvers: Sequence[DatagramSolver]) -> None:
        """Ask these solvers, in this order. What is pending in them may change at any time."""
        self._solvers = tuple(solvers)
        self._allowance = Allowance(MAX_REPLIES_PER_SECOND)

    def handle(self, packet: bytes, now: float, interface: int = 0, *, verified: bool = True) -> DatagramReaction:
        """Decide on a packet, given from its IP header on; `interface` is the index of the one it came in by.

        Unless its checksum is `verified`, it is checked here. Nothing in the packet can make this raise.
        """
        try:
            datagram = parse(packet, interface, verified=verified)
        except MalformedPacket:
            return _PASS
        output = self._reply(datagram.payload)
        if output is None:
            return _PASS
        if not self._allowance.take(now):
            return _DROP
        return DatagramReaction(
            Verdict.REPLACE, without_effect(datagram), datagram.reply(output.data), _event(datagram, output)
        )

    def _reply(self, payload: bytes) -> Output | None:
        outputs = (solver.reply(payload) for solver in self._solvers)
        return next((output for output in outputs if output is not None), None)


def _event(datagram: Datagram, output: Output) -> Answered | None:
    if output.answer is None:
        return None
    ends = Connection(datagram.source, datagram.source_port, datagram.destination, datagram.destination_port)
    return Answered(output.answer.challenge, ends, transport=Transport.UDP)
