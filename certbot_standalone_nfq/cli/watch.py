"""Show challenge requests as they arrive, and what this machine answers to them, whichever ACME client validates.

Nothing is answered and nothing is changed. Ctrl-C ends it and prints a table of everything that was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import select
import signal
import socket
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.tap import Tap
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.cli import arguments, dialogues
from certbot_standalone_nfq.cli.listener_names import ListenerNames
from certbot_standalone_nfq.diagnosis.attempts import Attempt, Attempts, Kept, TappedSegment
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.queries import TappedDatagram
from certbot_standalone_nfq.diagnosis.rules import outcome
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.settings import DNS_01
from certbot_standalone_nfq.wire.addresses import version_of
from certbot_standalone_nfq.wire.tcp import Connection

if TYPE_CHECKING:  # scapy comes with it
    from certbot_standalone_nfq.session.pcap import Recording

MAX_WAITING = 1024
"""Requests that wait for an answer, and sources in the table; the oldest make room."""
_PATIENCE = 5.0
"""Seconds after which a request counts as not answered."""
_TICK = 0.5
_BATCH = 500
_LAST = 8192
"""Packets to read at the end: more than the socket's buffer holds."""
_PORT = re.compile(r":\d+$")
_TROUBLES = {
    Cause.REFUSED: "refused",
    Cause.DROPPED: "not answered",
    Cause.RETURN_PATH: "answer lost",
}

_TRANSPORTS = {DNS_01: socket.IPPROTO_UDP}
_TRANSPORT_NAMES = {DNS_01: "UDP and TCP"}


Print = Callable[[str], object]
Listeners = Callable[[str], str]
"""Returns, for an address of this machine, what listens there."""


@dataclass
class Source:
    """What came from one address."""

    requests: int = 0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Waiting:
    """A request that has had no answer yet."""

    time: float
    source: Source


class Watch:
    """Describes what tapped segments mean, line by line."""

    def __init__(self, port: ChallengePort, names: set[str], tell: Print, listeners: Listeners) -> None:
        self._port = port
        self._names = names
        self._tell = tell
        self._listeners = listeners
        self._waiting: OrderedDict[Connection, _Waiting] = OrderedDict()
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._attempts = Attempts(port.challenge_in, outgoing_seen=True, keep_packets=True)

    def observe(self, seen: TappedSegment | TappedDatagram) -> None:
        """Take a packet into account."""
        if isinstance(seen, TappedDatagram):
            self._query(seen)
            return
        self._attempts.observe(seen)
        challenge = None if seen.outgoing else self._port.challenge_in(seen.payload)
        if challenge:
            self._request(seen, challenge)
        elif seen.outgoing and seen.payload and seen.connection in self._waiting:
            self._answer(seen)

    def expire(self, now: float) -> None:
        """Stop waiting for answers that are overdue at a time in seconds since the epoch."""
        while self._waiting and next(iter(self._waiting.values())).time < now - _PATIENCE:
            connection, waiting = self._waiting.popitem(last=False)
            waiting.source.answers["none"] += 1
            self._tell(f"{_clock(now)}  no answer to {connection.peer} within {_PATIENCE:.0f} seconds")

    def packets(self) -> Iterator[Kept]:
        """Yield the segments of validations, and of connections that failed."""
        for attempt in self._attempts:
            if attempt.challenge is not None or _trouble(attempt):
                yield from attempt.packets

    def table(self) -> Iterator[str]:
        """Yield the closing table: each source with its requests and answers, then the connections that failed."""
        yield f"{'source':40} {'requests':>8}  answers"
        for address, source in self._sources.items():
            answers = ", ".join(f"{count} x {answer}" for answer, count in source.answers.most_common())
            yield f"{address:40} {source.requests:8}  {answers}"
        if not self._sources:
            yield "no challenge request was seen"
        troubles = Counter(
            (attempt.connection.peer, trouble) for attempt in self._attempts if (trouble := _trouble(attempt))
        )
        for (address, trouble), count in troubles.most_common(MAX_WAITING):
            yield f"{address:40} {count:8}  connections: {trouble}"

    def _request(self, seen: TappedSegment, challenge: ChallengeId) -> None:
        host, what = dialogues.asked(seen.payload, challenge)
        if self._names and _PORT.sub("", host).lower() not in self._names:
            return
        if seen.connection in self._waiting:
            return  # a retransmission
        address = seen.connection.peer
        source = self._count(address)
        self._waiting[seen.connection] = _Waiting(seen.time, source)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)
        self._tell(
            f"{_clock(seen.time)}  {address} over IPv{version_of(address)} to {seen.connection.local} "
            f"({self._listeners(seen.connection.local)}) asks {host} for {what}"
        )

    def _query(self, seen: TappedDatagram) -> None:
        question = self._port.question_in(seen.payload)
        if question is None or (self._names and question.challenge.key.partition(".")[2] not in self._names):
            return
        address, local = seen.connection.peer, seen.connection.local
        self._count(address)
        self._tell(
            f"{_clock(seen.time)}  {address} over IPv{version_of(address)} and UDP to {local} "
            f"({self._listeners(local)}) asks for the {question.kind} records of {question.challenge.key}"
        )

    def _count(self, address: str) -> Source:
        source = self._sources.setdefault(address, Source())
        if len(self._sources) > MAX_WAITING:
            self._sources.popitem(last=False)
        source.requests += 1
        return source

    def _answer(self, seen: TappedSegment) -> None:
        waiting = self._waiting.pop(seen.connection)
        status = dialogues.reply(seen.payload)
        waiting.source.answers[status] += 1
        milliseconds = (seen.time - waiting.time) * 1000
        self._tell(f"{_clock(seen.time)}  answered {seen.connection.peer}: {status}, after {milliseconds:.1f} ms")


def run(options: argparse.Namespace) -> int:
    """Watch until interrupted; return the exit status."""
    from certbot_standalone_nfq.session.pcap import Recording  # scapy comes with it

    typ, number = arguments.chosen(options)
    port = ChallengePort(number, (registry.solver(typ),))
    try:
        recording = Recording(options.pcap) if options.pcap else None
        tap = Tap(port.selectors(), replies=True)
    except errors.Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        return _complain(options.pcap, error)
    watch = Watch(
        port,
        {name.lower() for name in arguments.names(options)},
        _say,
        ListenerNames(port.number, _TRANSPORTS.get(typ, socket.IPPROTO_TCP)),
    )
    try:
        _show(tap, watch, f"{_TRANSPORT_NAMES.get(typ, 'TCP')} port {port.number}")
    except BrokenPipeError:
        _save(recording, watch, options.pcap)  # the lines have no reader any more; the file was asked for
        raise
    return _save(recording, watch, options.pcap)


def _show(tap: Tap, watch: Watch, where: str) -> None:
    """Print what is seen until interrupted, and then the table. Raises BrokenPipeError if the reader has gone."""
    with contextlib.closing(tap), _interruptions() as interrupted:
        _say(f"Looking at {where}; end with Ctrl-C.")
        missed = _look(tap, watch, interrupted)
    for line in ("", *watch.table()):
        _say(line)
    if missed:
        _say(f"{missed} packets came too fast to be read")


def _save(recording: Recording | None, watch: Watch, path: Path) -> int:
    """Write the capture file, if there is to be one; return the exit status."""
    if not recording:
        return 0
    for kept in watch.packets():
        recording.add(kept.packet, kept.time)
    try:
        recording.write()
    except OSError as error:
        return _complain(path, error)
    return 0


def _complain(path: Path | None, error: OSError) -> int:
    what = f"{path} cannot be written" if path else "Connections cannot be watched"
    sys.stderr.write(f"{what}: {error.strerror or error}.\n")
    return 1


@contextlib.contextmanager
def _interruptions() -> Iterator[socket.socket]:
    """Make a socket readable on SIGINT and SIGTERM, in place of interrupting the program at any point."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    with reading, writing:
        signal.set_wakeup_fd(writing.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)


def _look(tap: Tap, watch: Watch, interrupted: socket.socket) -> int:
    """Give the watch what the tap sees until interrupted; return how many packets were missed."""
    missed, last = 0, False
    while not last:
        readable, _, _ = select.select([tap.fileno(), interrupted.fileno()], [], [], _TICK)
        last = interrupted.fileno() in readable
        for seen in tap.receive(_LAST if last else _BATCH):
            watch.observe(seen)
        watch.expire(time.time())
        missed += tap.missed()
    return missed


def _trouble(attempt: Attempt) -> str:
    """Return how a connection failed before any request, or an empty text."""
    cause = outcome(attempt)
    return _TROUBLES.get(cause, "") if cause else ""


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
