"""Packet or time in, decision out.

The packets come from connections to the ports of challenges. Most begin like one, the rest belong to connections
that did. A connection is in one of three states: unknown; *watched*, as its first bytes may become a pending
challenge; *taken over*, as they have. Everything else is let go. What a challenge looks like, the solvers know.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence

from certbot_standalone_nfq.engine.allowance import Allowance
from certbot_standalone_nfq.engine.datagrams import Datagrams
from certbot_standalone_nfq.engine.endpoint import Endpoint
from certbot_standalone_nfq.engine.protocols import (
    UNDECIDED,
    Conversation,
    DatagramSolver,
    Declined,
    Recognition,
    StreamSolver,
)
from certbot_standalone_nfq.engine.receive_buffer import MAX_START, ReceiveBuffer
from certbot_standalone_nfq.engine.recognition import recognise
from certbot_standalone_nfq.engine.timers import Timers
from certbot_standalone_nfq.engine.verdicts import Reaction, Verdict
from certbot_standalone_nfq.engine.watched import Proof, Sockets, Watched, WatchList
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.proxy_protocol import without_header
from certbot_standalone_nfq.wire.tcp import Connection, Segment, connection_of, is_intact, locate, read

MAX_WATCHED = 1024
"""Connections; beyond it, one of the network that has most of them is no longer watched."""
MAX_TAKEN_OVER = 4096
"""Connections; beyond it, the one taken over first is forgotten."""
MAX_ANSWERS_PER_SECOND = 500
"""Connections that are taken over; requests beyond it are dropped, and come again."""

_PASS = Reaction(Verdict.PASS)
_WATCH = Reaction(Verdict.WATCH)
_DROP = Reaction(Verdict.DROP)


class Engine:
    """What to do with each packet. Times are seconds on the caller's monotonic clock."""

    def __init__(self, solvers: Sequence[StreamSolver], sockets: Sockets | None = None) -> None:
        """Ask these solvers, in this order, what a stream is. What is pending in them may change at any time.

        With `sockets`, only connections that these have are watched or taken over, except forwarded ones.
        """
        self.datagrams = Datagrams([solver for solver in solvers if isinstance(solver, DatagramSolver)])
        """Decides on UDP."""
        self._sockets = sockets
        self._solvers = tuple(solvers)
        self._watched = WatchList()
        self._replaced: Watched | None = None
        """The stream that was taken over last, as it was before, until that is confirmed."""
        self._allowance = Allowance(MAX_ANSWERS_PER_SECOND)
        self._taken_over: OrderedDict[Connection, Endpoint] = OrderedDict()
        self._timers: Timers[Connection] = Timers()

    def handle(  # noqa: PLR0913 - all that a capture knows of a packet
        self,
        packet: bytes,
        now: float,
        interface: int = 0,
        length: int | None = None,
        *,
        verified: bool = True,
        forwarded: bool = False,
        proven: bool = False,
    ) -> Reaction:
        """Decide on a packet, given from its IP header on; `interface` is the index of the one it came in by.

        Of a packet of `length` bytes only the first need to be given. Unless its checksum is `verified`, it is checked
        here, if all of the packet is there. `forwarded` and `proven` are as in `CapturedPacket`. Nothing in the packet
        can make this raise; it raises OSError as `sockets` do. Whether a takeover succeeded, `confirm` says.
        """
        try:
            layout = locate(packet, length)
        except MalformedPacket:
            return _PASS
        # Most packets of a port that is queued as a whole are of no concern: they go after a few comparisons.
        connection = connection_of(packet, layout) if self._taken_over or self._watched else None
        recognition: Recognition = None
        known = connection is not None and (connection in self._taken_over or connection in self._watched)
        if not known:
            payload = packet[layout.payload : layout.end]
            recognition = self._recognise(payload) if payload else None
            if recognition is None:
                return _PASS
        connection = connection or connection_of(packet, layout)
        if not verified and layout.whole and not is_intact(packet, layout):
            return self._pass_over(connection)
        try:
            segment = read(packet, layout, connection, interface)
        except MalformedPacket:
            return self._pass_over(connection)
        proof = Proof.NUMBERS if proven else Proof.CAPTURE if forwarded else Proof.SOCKETS
        if known:
            return self._decide(connection, segment, now, proof)
        return self._begin(connection, segment, recognition, now, proof)

    def _pass_over(self, connection: Connection) -> Reaction:
        """Leave a packet that cannot be trusted to the kernel's TCP, which discards it; its connection stays ours."""
        if connection in self._taken_over:
            return _DROP
        return _WATCH if connection in self._watched else _PASS

    def decide(self, segment: Segment, now: float) -> Reaction:
        """Decide on a segment."""
        return self._decide(segment.connection, segment, now, Proof.SOCKETS)

    def _decide(self, connection: Connection, segment: Segment, now: float, proof: Proof) -> Reaction:
        endpoint = self._taken_over.get(connection)
        if endpoint and not self._is_of_another(endpoint, segment):
            reaction = endpoint.receive(segment, now)
            self._keep(connection, endpoint, now)
            return reaction
        if endpoint:
            self._forget(connection)
        stream = self._watched.pop(connection)
        if stream:
            return self._go_on(stream, segment, now)
        return self._begin(connection, segment, self._recognise(segment.payload), now, proof)

    def _is_of_another(self, endpoint: Endpoint, segment: Segment) -> bool:
        """Whether a segment's connection is another than the endpoint's, between the same addresses and ports.

        The end of the endpoint's may have been lost. Its socket has ended, so one that is open is another's.
        """
        if endpoint.is_older_than(segment) or endpoint.is_contradicted_by(segment):
            return True
        if self._sockets is None or not endpoint.is_passed_by(segment) or not _is_of_open_connection(segment):
            return False
        if not segment.payload or not self._sockets.is_open(segment.connection, segment.interface):
            return False
        return self._recognise(segment.payload) is not None  # last, as it may begin a conversation

    def confirm(self, connection: Connection) -> bool:
        """Whether a takeover succeeded, once its reset has gone on to the server, and before anything is sent.

        If the server's socket still has the connection, it did not believe the reset, and the connection is the
        server's. Most likely the request was a stranger's guess. If not, it comes again: where handshakes are queued
        too, a request may have come to the socket before the handshake's end had, and its reset is lost on that.
        """
        endpoint = self._taken_over.get(connection)
        replaced, self._replaced = self._replaced, None
        if endpoint is None or replaced is None or self._sockets is None:
            return True
        with contextlib.suppress(OSError):
            if self._sockets.has_ended(connection, endpoint.interface):
                return True
        self._forget(connection)
        if replaced.incoming.unread:
            self._watch(replaced)
        return False

    def tick(self, now: float) -> tuple[Segment, ...]:
        """Return the segments that are due; connections whose time is over are forgotten."""
        send: list[Segment] = []
        for connection in self._timers.due(now):
            endpoint = self._taken_over[connection]
            send += endpoint.tick(now)
            self._keep(connection, endpoint, now)
        return tuple(send)

    def deadline(self) -> float | None:
        """Return when `tick` is due, or None if nothing is waiting."""
        return self._timers.next()

    def settled(self) -> bool:
        """Whether every answer that was begun has been acknowledged."""
        return all(endpoint.settled for endpoint in self._taken_over.values())

    def _keep(self, connection: Connection, endpoint: Endpoint, now: float) -> None:
        """Set the timer of a connection, or forget the connection if its time is over."""
        if endpoint.is_over(now):
            self._forget(connection)
        else:
            self._timers.set(connection, endpoint.deadline)

    def _forget(self, connection: Connection) -> None:
        del self._taken_over[connection]
        self._timers.forget(connection)

    def _recognise(self, received: bytes) -> Recognition:
        return recognise(self._solvers, received)

    def _begin(
        self, connection: Connection, segment: Segment, recognition: Recognition, now: float, proof: Proof
    ) -> Reaction:
        """Decide on a segment of a connection that nothing is known of, by what its payload has been recognised as."""
        if recognition is None or not _is_of_open_connection(segment):
            return _PASS
        has_socket = self._sockets is not None and proof is Proof.SOCKETS
        if self._sockets and has_socket and not self._sockets.is_open(connection, segment.interface):
            return _PASS
        stream = Watched(connection, ReceiveBuffer(segment.seq), has_socket, proof)
        stream.add(segment)
        return self._judge(stream, segment, recognition, now)

    def _go_on(self, stream: Watched, segment: Segment, now: float) -> Reaction:
        """Decide on a further segment of a connection that was watched."""
        if segment.flags & Flags.SYN and stream.incoming.repeats(segment):
            return self._watch(stream)  # the connection's own SYN, late or doubled
        if not _is_of_open_connection(segment):
            return _PASS
        if not stream.incoming.can_take(segment):
            recognition = self._recognise(segment.payload)
            return self._begin(stream.connection, segment, recognition, now, stream.proof)
        stream.add(segment)
        start = stream.incoming.unread
        return self._judge(stream, segment, self._recognise(start) if start else UNDECIDED, now)

    def _judge(self, stream: Watched, segment: Segment, recognition: Recognition, now: float) -> Reaction:
        if recognition is None:
            return _PASS
        if recognition is UNDECIDED:
            return self._watch(stream)
        if isinstance(recognition, Declined):
            return Reaction(Verdict.PASS, event=recognition)
        if not self._allowance.take(now):
            self._watch(stream.without_last())  # it comes again, and what follows it may come first
            return _DROP
        return self._take_over(stream, segment, recognition, now)

    def _watch(self, stream: Watched) -> Reaction:
        if stream.incoming.closed or len(stream.incoming.unread) >= MAX_START:
            return _PASS
        self._watched.put(stream, MAX_WATCHED)
        return _WATCH

    def _take_over(self, stream: Watched, segment: Segment, conversation: Conversation, now: float) -> Reaction:
        connection = stream.connection
        self._replaced = stream.without_last() if stream.has_socket else None
        endpoint = Endpoint(stream, segment, conversation, now)
        opened = endpoint.open(without_header(stream.incoming.read()), now)
        self._taken_over[connection] = endpoint
        if len(self._taken_over) > MAX_TAKEN_OVER:
            self._forget(next(iter(self._taken_over)))
        self._keep(connection, endpoint, now)
        return Reaction(Verdict.REPLACE, opened.send, _reset_of(segment, stream.expected_by_server), opened.event)


def _is_of_open_connection(segment: Segment) -> bool:
    """Whether a segment can be part of a dialogue; a SYN may carry data (RFC 7413) before the connection is open."""
    return bool(segment.flags & Flags.ACK) and not segment.flags & (Flags.SYN | Flags.RST)


def _reset_of(segment: Segment, seq: int) -> Segment:
    """Return the client's reset that the server believes: exactly the sequence number it expects (RFC 5961, 3.2)."""
    return Segment(
        source=segment.source,
        source_port=segment.source_port,
        destination=segment.destination,
        destination_port=segment.destination_port,
        seq=seq,
        ack=0,
        flags=Flags.RST,
        window=0,
    )
