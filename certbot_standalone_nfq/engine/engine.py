"""Packet or time in, decision out.

The packets come from connections to the http-01 port. Most begin like a challenge request, the rest belong to
connections that did. A connection is in one of three states: unknown; *watched*, as its first octets may become a
request for a pending token; *taken over*, as they have. Everything else is let go.
"""

from __future__ import annotations

from collections import OrderedDict

from certbot_standalone_nfq.challenges.http01.solver import Challenge, Finding, Http01Solver, forwarded_by
from certbot_standalone_nfq.engine.endpoint import Endpoint
from certbot_standalone_nfq.engine.receive_buffer import ReceiveBuffer
from certbot_standalone_nfq.engine.timers import Timers
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Reaction, Verdict
from certbot_standalone_nfq.wire.proxy_protocol import without_header
from certbot_standalone_nfq.wire.tcp import (
    Connection,
    Flags,
    Layout,
    MalformedPacket,
    Segment,
    connection_of,
    is_intact,
    locate,
    read,
)

MAX_WATCHED = 1024
"""Connections; beyond it, the one watched longest is no longer watched."""
MAX_TAKEN_OVER = 4096
"""Connections; beyond it, the one taken over first is forgotten."""

_PASS = Reaction(Verdict.PASS)


class Engine:
    """What to do with each packet. Times are seconds on the caller's monotonic clock."""

    def __init__(self) -> None:
        self.pending = Http01Solver()
        self._watched: OrderedDict[Connection, ReceiveBuffer] = OrderedDict()
        self._taken_over: OrderedDict[Connection, Endpoint] = OrderedDict()
        self._timers: Timers[Connection] = Timers()

    def handle(
        self, packet: bytes, now: float, interface: int = 0, length: int | None = None, *, verified: bool = True
    ) -> Reaction:
        """Decide on a packet, given from its IP header on; `interface` is the index of the one it came in by.

        Of a packet of `length` octets only the first need to be given. Unless its checksum is `verified`, it is looked
        at here, if all of the packet is there. Nothing in the packet can make this raise.
        """
        try:
            layout = locate(packet, length)
        except MalformedPacket:
            return _PASS
        if not self._concerns_us(packet, layout):
            return _PASS
        try:
            if not verified and layout.whole and not is_intact(packet, layout):
                raise MalformedPacket("checksum")
            return self.decide(read(packet, layout, interface), now)
        except MalformedPacket:
            return self._pass_over(connection_of(packet, layout))

    def _pass_over(self, connection: Connection) -> Reaction:
        """Leave a packet that cannot be trusted to the kernel's TCP, which discards it; its connection stays ours."""
        if connection in self._taken_over:
            return Reaction(Verdict.DROP)
        return Reaction(Verdict.WATCH) if connection in self._watched else _PASS

    def _concerns_us(self, packet: bytes, layout: Layout) -> bool:
        """Tell by a few comparisons whether a packet is worth reading, as most of those of a whole port are not."""
        payload = packet[layout.payload : layout.end]
        if payload and self.pending.recognise(without_header(payload)).finding is not Finding.UNRELATED:
            return True
        if not self._taken_over and not self._watched:
            return False
        connection = connection_of(packet, layout)
        return connection in self._taken_over or connection in self._watched

    def decide(self, segment: Segment, now: float) -> Reaction:
        """Decide on a segment."""
        endpoint = self._taken_over.get(segment.connection)
        if endpoint and endpoint.is_older_than(segment):
            self._forget(segment.connection)
            endpoint = None
        if not endpoint:
            return self._examine(segment, now)
        settled = endpoint.settled
        send = endpoint.receive(segment, now)
        self._keep(segment.connection, endpoint, now)
        event = Acknowledged(segment.connection) if endpoint.settled and not settled else None
        return Reaction(Verdict.DROP, send, event=event)

    def tick(self, now: float) -> tuple[Segment, ...]:
        """Return the segments that are due by now; connections whose time is over are forgotten."""
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
        """Tell whether every answer that was begun has been acknowledged."""
        return all(endpoint.settled for endpoint in self._taken_over.values())

    def _keep(self, connection: Connection, endpoint: Endpoint, now: float) -> None:
        """See to a connection again when something is due for it, or forget it if its time is over."""
        if endpoint.is_over(now):
            self._forget(connection)
        else:
            self._timers.set(connection, endpoint.deadline)

    def _forget(self, connection: Connection) -> None:
        del self._taken_over[connection]
        self._timers.forget(connection)

    def _examine(self, segment: Segment, now: float) -> Reaction:
        """Decide on a segment of a connection that is the web server's so far."""
        request = self._watched.pop(segment.connection, None)
        if request and segment.flags & Flags.SYN and request.repeats(segment):
            self._watched[segment.connection] = request  # the connection's own SYN, late or doubled
            return Reaction(Verdict.WATCH)
        if segment.flags & (Flags.SYN | Flags.RST) or not segment.flags & Flags.ACK:
            return _PASS  # a SYN may carry data (RFC 7413), for a connection that is not open yet
        if request is None and not segment.payload:
            return _PASS
        if request is None or not request.can_take(segment):
            request = ReceiveBuffer(segment.seq)
        expected_by_server = request.next_seq
        request.add(segment)
        recognition = self.pending.recognise(request.head)
        if recognition.challenge:
            return self._take_over(segment, request, recognition.challenge, expected_by_server, now)
        if recognition.finding is Finding.UNRELATED or request.closed:
            return _PASS
        self._watched[segment.connection] = request
        if len(self._watched) > MAX_WATCHED:
            self._watched.popitem(last=False)
        return Reaction(Verdict.WATCH)

    def _take_over(
        self, segment: Segment, request: ReceiveBuffer, challenge: Challenge, expected_by_server: int, now: float
    ) -> Reaction:
        endpoint = Endpoint(segment, request, challenge, now)
        self._taken_over[segment.connection] = endpoint
        if len(self._taken_over) > MAX_TAKEN_OVER:
            self._forget(next(iter(self._taken_over)))
        send = endpoint.open(now)
        self._keep(segment.connection, endpoint, now)
        return Reaction(
            Verdict.REPLACE,
            send=send,
            reset=_reset_of(segment, expected_by_server),
            event=Answered(challenge.token, segment.connection, forwarded_by(request.head)),
        )


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
