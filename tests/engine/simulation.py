"""A network that loses, delays, doubles and damages segments as a seed says, with a client and a web server on it.

    client <-- link --> host: prefilter, engine, web server

The client retries nothing above TCP. The server acknowledges and answers like any other; it must never see the whole
request. Time is virtual.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from certbot_standalone_nfq.challenges.http01.conversation import has_whole_head
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX
from certbot_standalone_nfq.engine.reassembly import Reassembly
from certbot_standalone_nfq.engine.receive_buffer import ReceiveBuffer
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.sequence import advance, distance
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, parse, write
from tests.engine.kept import kept_by
from tests.engine.peer import KEY_AUTHORIZATION, engine_for, request

CLIENT, SERVER = "192.0.2.1", "192.0.2.80"
END = 300.0


@dataclass(frozen=True)
class Conditions:
    """How bad the network is: probabilities for each segment, and seconds."""

    loss: float = 0.0
    doubling: float = 0.0
    damage: float = 0.0
    delay: float = 0.02
    jitter: float = 0.0
    timestamps: bool = True
    cuts: tuple[int, ...] = ()
    """Where the request is cut into segments of its own."""
    half_close: bool = False
    late_syns: int = 0
    """Copies of the connection's SYN that are still under way when the request is sent."""


class Clock:
    """Events in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + max(0.0, seconds), next(self._order), event))

    def run(self) -> None:
        while self._events and self.now < END:
            self.now, _, event = heapq.heappop(self._events)
            event()


class Link:
    """One direction of the cable."""

    def __init__(self, clock: Clock, conditions: Conditions, chance: random.Random) -> None:
        self._clock, self._conditions, self._chance = clock, conditions, chance
        self.deliver: Callable[[Segment], None] = lambda _: None

    def send(self, segment: Segment) -> None:
        conditions, chance = self._conditions, self._chance
        for _ in range(2 if chance.random() < conditions.doubling else 1):
            if chance.random() < conditions.loss:
                continue
            if chance.random() < conditions.damage and not self._survives_damage(segment):
                continue
            delay = conditions.delay + chance.expovariate(1) * conditions.jitter
            self._clock.after(delay, lambda: self.deliver(segment))

    def _survives_damage(self, segment: Segment) -> bool:
        """Change one octet: hosts throw a segment away whose checksum no longer fits, before we see it."""
        packet = bytearray(write(segment))
        packet[self._chance.randrange(len(packet))] ^= self._chance.randrange(1, 256)
        try:
            return write(parse(bytes(packet))) == packet
        except MalformedPacket:
            return False


class Client:
    """A TCP client that sends one request, reads to the end, and closes."""

    def __init__(self, clock: Clock, link: Link, conditions: Conditions) -> None:
        self._clock, self._link, self._conditions = clock, link, conditions
        cuts = [0, *conditions.cuts, len(request())]
        self._pieces = [request()[start:end] for start, end in zip(cuts, cuts[1:])]
        self._first = self._una = 0xFFFFFF00  # wraps around in the middle of the request
        self._incoming = Reassembly(7000, 1 << 16)
        self._fin_seq: int | None = None
        self._fin_at: int | None = None
        self._timer = 0
        self._timeout = 1.0
        self._echo = 0
        self.received = b""
        self.saw_end = self.was_reset = self.done = False
        self.ended_at = END

    def begin(self) -> None:
        for _ in range(self._conditions.late_syns):
            self._link.send(replace(self._segment(advance(self._first, -1), b"", Flags.SYN), ack=0))
        self._send_from(self._first)
        if self._conditions.half_close:
            self._close()

    def receive(self, segment: Segment) -> None:
        if segment.flags & Flags.RST:
            self.was_reset = self.was_reset or segment.seq == self._incoming.next_seq
            return
        if self._conditions.timestamps:
            if segment.timestamps is None or distance(self._echo, segment.timestamps.value) < 0:
                return  # RFC 7323: 3.2 and PAWS
            self._echo = segment.timestamps.value
        if distance(self._una, segment.ack) > 0:
            self._una = segment.ack
            self._timeout = 1.0
            self._arm()
        before = self._incoming.next_seq
        self.received += self._incoming.add(segment.seq, segment.payload)
        if segment.flags & Flags.FIN:
            self._fin_seq = advance(segment.seq, len(segment.payload))
        if self._fin_seq == self._incoming.next_seq:
            self._incoming.add(self._fin_seq, b"F")
            self.saw_end = True
            self.ended_at = min(self.ended_at, self._clock.now)
        if self.saw_end and self._fin_at is None:
            self._close()
        elif segment.payload or segment.flags & Flags.FIN or before != self._incoming.next_seq:
            self._link.send(self._segment(self._end(), b"", Flags.ACK))
        self.done = self.saw_end and self._una == self._end()

    def _end(self) -> int:
        sent = len(request()) + (self._fin_at is not None)
        return advance(self._first, sent)

    def _close(self) -> None:
        self._fin_at = advance(self._first, len(request()))
        self._send_from(self._fin_at)

    def _send_from(self, seq: int) -> None:
        at = self._first
        for piece in self._pieces:
            if distance(seq, at) >= 0:
                self._link.send(self._segment(at, piece, Flags.PSH | Flags.ACK))
            at = advance(at, len(piece))
        if self._fin_at is not None:
            self._link.send(self._segment(self._fin_at, b"", Flags.FIN | Flags.ACK))
        self._arm()

    def _arm(self) -> None:
        self._timer += 1
        timer = self._timer
        if self._una != self._end():
            self._clock.after(self._timeout, lambda: self._on_timeout(timer))

    def _on_timeout(self, timer: int) -> None:
        if timer == self._timer and not self.was_reset:
            self._timeout = min(self._timeout * 2, 16.0)
            self._send_from(self._una)

    def _segment(self, seq: int, payload: bytes, flags: Flags) -> Segment:
        stamp = Timestamps(int(self._clock.now * 1000), self._echo) if self._conditions.timestamps else None
        return Segment(CLIENT, 40000, SERVER, 80, seq, self._incoming.next_seq, flags, 502, payload, stamp)


class Server:
    """The web server's end: it acknowledges, and answers a whole request with something else."""

    def __init__(self, clock: Clock, link: Link) -> None:
        self._clock, self._link = clock, link
        self._incoming = Reassembly(0xFFFFFF00, 1 << 16)
        self.received = b""
        self.dead = False

    def receive(self, segment: Segment) -> None:
        if segment.flags & Flags.RST:
            self.dead = self.dead or segment.seq == self._incoming.next_seq
            return
        if segment.flags & Flags.SYN and not self.dead:
            return  # of a connection that is open: at most acknowledged
        if self.dead:  # the host's answer to a segment for no connection: RFC 9293, 3.10.7.1
            self._send(segment, segment.ack, Flags.RST, b"")
            return
        self.received += self._incoming.add(segment.seq, segment.payload)
        answer = b"HTTP/1.1 404 Not Found\r\n\r\n" if self.saw_request else b""
        if segment.payload:
            self._send(segment, 7000, Flags.ACK, answer)

    @property
    def saw_request(self) -> bool:
        return has_whole_head(self.received)

    def _send(self, segment: Segment, seq: int, flags: Flags, payload: bytes) -> None:
        stamp = Timestamps(int(self._clock.now * 1000), segment.timestamps.value) if segment.timestamps else None
        ack = self._incoming.next_seq
        self._link.send(Segment(SERVER, 80, CLIENT, segment.source_port, seq, ack, flags, 502, payload, stamp))


class Host:
    """The kernel's rules, the engine and the web server."""

    def __init__(self, clock: Clock, link: Link) -> None:
        self.engine = engine_for()
        self.server = Server(clock, link)
        self._clock, self._link = clock, link
        self._marked = False

    def receive(self, segment: Segment) -> None:
        if not self._marked and not _prefilter(segment.payload):
            self.server.receive(segment)
            return
        reaction = self.engine.decide(segment, self._clock.now)
        self._marked = reaction.verdict is not Verdict.PASS
        if reaction.verdict in (Verdict.PASS, Verdict.WATCH):
            self.server.receive(segment)
        elif reaction.reset:
            self.server.receive(reaction.reset)
        self._send(reaction.send)

    def _send(self, segments: tuple[Segment, ...]) -> None:
        for segment in segments:
            self._link.send(segment)
        deadline = self.engine.deadline()
        if deadline is not None:
            self._clock.after(deadline - self._clock.now, self._on_deadline)

    def _on_deadline(self) -> None:
        self._send(self.engine.tick(self._clock.now))  # it may have come a rounding error too early


def _prefilter(payload: bytes) -> bool:
    return bool(payload) and payload[: len(REQUEST_PREFIX)] == REQUEST_PREFIX[: len(payload)]


@dataclass
class Outcome:
    """How it ended."""

    client: Client
    host: Host

    @property
    def is_answered(self) -> bool:
        """Whether an authority would be content: the whole answer, and its end."""
        expected = b"\r\n\r\n" + KEY_AUTHORIZATION.encode()
        return self.client.saw_end and self.client.received.endswith(expected)

    @property
    def is_clean(self) -> bool:
        """Whether the client's close was acknowledged, and no reset came."""
        return self.client.done and not self.client.was_reset

    @property
    def is_forgotten(self) -> bool:
        """Whether the engine has nothing left of it."""
        return not kept_by(self.host.engine, ReceiveBuffer)


def simulate(conditions: Conditions, seed: int) -> Outcome:
    """Let the client ask once, and return how it went."""
    clock, chance = Clock(), random.Random(seed)
    to_host, to_client = (Link(clock, conditions, chance) for _ in range(2))
    client, host = Client(clock, to_host, conditions), Host(clock, to_client)
    to_host.deliver, to_client.deliver = host.receive, client.receive
    client.begin()
    clock.run()
    host.engine.tick(END + 100)
    return Outcome(client, host)
