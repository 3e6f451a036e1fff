"""One interception: the rules, the queue and the raw sockets on one side, the engine on the other, and a thread.

The thread alone reads the queue and decides on packets. Whatever happens in it, a packet gets a verdict, and when in
doubt it passes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict, QueuedPacket
from certbot_standalone_nfq.capture.nfqueue.setup import Claim, claim
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Reaction, Verdict
from certbot_standalone_nfq.session.injector import Sender
from certbot_standalone_nfq.settings import Settings
from certbot_standalone_nfq.wire.tcp import Segment, write

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""How long to wait, at the end, for peers to acknowledge the answers under way."""
_JOIN_SECONDS = 5.0
_MAX_LOGGED = 1000
"""Decisions to log, as anybody can cause them."""
_PASS = Reaction(Verdict.PASS)


class Interception:
    """Answers challenge requests to one port, from its making until `stop`."""

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[Answered | Acknowledged], object],
        record: Callable[[bytes], object] | None = None,
    ) -> None:
        """Take hold of the machine and begin. Raises one of the package's errors, with nothing left behind.

        `tell` is called on the interception's thread for every request that is answered, and for every answer that
        has arrived; `record`, if given, for every packet of an answered connection, either way.
        """
        self._record = record
        self._tell = tell
        self._solvers = {solver.typ: solver() for solver in registry.SOLVERS}
        self._engine = Engine(list(self._solvers.values()))
        self._engine_changed = threading.Condition()
        """Guards the engine; notified when it has handled something."""
        self._warned: set[str] = set()
        self._decisions = 0
        self._stopping = False
        with contextlib.ExitStack() as undo:
            self._sender = Sender()
            undo.callback(self._sender.close)
            self._wake_read, self._wake_write = os.pipe()
            undo.callback(os.close, self._wake_read)
            undo.callback(os.close, self._wake_write)
            self._opened = undo.pop_all()
        with contextlib.ExitStack() as undo:
            undo.callback(self._opened.close)
            selectors = [each for solver in registry.SOLVERS for each in solver.selectors(settings.port)]
            self._claim: Claim = claim(settings, selectors)
            undo.callback(self._claim.release)
            self._thread = threading.Thread(target=self._run, name="standalone-nfq", daemon=True)
            self._thread.start()
            undo.pop_all()

    def answer(self, typ: str, challenge: str, answer: str) -> None:
        """Answer a challenge of a type from now on, given its key. Raises ValueError for a bad key."""
        with self._engine_changed:
            self._solvers[typ].add(challenge, answer)

    def withdraw(self, typ: str, challenge: str) -> None:
        """Leave further requests for a challenge to the server; answers under way are completed."""
        with self._engine_changed:
            self._solvers[typ].remove(challenge)

    def stop(self) -> None:
        """See answers under way through, and give the machine back.

        Raises one of the package's errors if the rules cannot be removed. They are harmless then, as a
        queue without a listener is bypassed, and the guard tries again when this process ends.
        """
        with self._engine_changed:
            self._engine_changed.wait_for(self._engine.settled, SETTLE_SECONDS)
        try:
            self._claim.remove_rules(self._drain)
        finally:
            self._drain()
            self._claim.queue.close()
            self._opened.close()
        self._claim.guard.dismiss()

    def _drain(self) -> None:
        """End the thread, once it has given a verdict on what is left in the queue."""
        self._stopping = True
        os.write(self._wake_write, b"\0")
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        """Handle packets and deadlines until stopped; give the queue up if that fails, as it is bypassed then."""
        try:
            self._handle_until_stopped()
        except Exception as error:
            errors.raise_interruption(error)
            self._claim.queue.close()
            logger.warning("Challenge requests go to the web server from here on: %s", error, exc_info=True)

    def _handle_until_stopped(self) -> None:
        poll = select.poll()
        poll.register(self._claim.queue, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            poll.poll(self._milliseconds_to_deadline())
            packets = self._claim.queue.receive()
            with self._engine_changed:
                for packet in packets:
                    self._handle(packet)
                self._send(self._engine.tick(time.monotonic()))
                self._engine_changed.notify_all()
            if self._stopping and not packets:
                return  # nothing is left that was queued before the rules were removed

    def _milliseconds_to_deadline(self) -> float | None:
        deadline = self._engine.deadline()
        return None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000

    def _handle(self, packet: QueuedPacket) -> None:
        began = time.monotonic()
        try:
            reaction = self._engine.handle(
                packet.payload, began, packet.interface, packet.length, verified=packet.verified
            )
            replacement = write(reaction.reset) if reaction.reset else None
        except Exception as error:
            errors.raise_interruption(error)
            self._warn_once("handling a packet failed, and it passes")
            reaction, replacement = _PASS, None
        if reaction.verdict is not Verdict.PASS:
            self._note(packet, reaction.verdict)
        self._decide(packet, reaction.verdict, replacement)
        self._send(reaction.send)
        if isinstance(reaction.event, Answered):
            self._tell(dataclasses.replace(reaction.event, seconds=time.monotonic() - began))
        elif reaction.event:
            self._tell(reaction.event)

    def _decide(self, packet: QueuedPacket, verdict: Verdict, replacement: bytes | None) -> None:
        give, marks = self._claim.queue.give_verdict, self._claim.allocation.marks
        try:
            if verdict is Verdict.DROP:
                give(packet.id, KernelVerdict.DROP)
            elif verdict is Verdict.REPLACE:
                # Accepted, not repeated: what leaves by our chain's end has its connection's mark cleared.
                give(packet.id, KernelVerdict.ACCEPT, payload=replacement)
            elif self._stopping:
                give(packet.id, KernelVerdict.REPEAT)  # the rules that would take our mark off are gone
            else:
                mark = packet.mark & ~marks.both | marks.released
                if verdict is Verdict.WATCH:
                    mark |= marks.connection
                give(packet.id, KernelVerdict.REPEAT, mark=mark)
        except OSError:
            self._warn_once("a packet's verdict could not be given")

    def _send(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            try:
                packet = self._sender.send(segment)
                if self._record:
                    self._record(packet)
            except Exception as error:
                errors.raise_interruption(error)
                self._warn_once(f"a segment to {segment.destination} could not be sent ({error}); it will be repeated")

    def _note(self, packet: QueuedPacket, verdict: Verdict) -> None:
        if self._record and verdict is not Verdict.WATCH:
            self._record(packet.payload)
        self._decisions += 1
        if self._decisions <= _MAX_LOGGED:
            logger.debug("Packet %d of %d octets: %s", packet.id, packet.length, verdict.name)

    def _warn_once(self, what: str) -> None:
        level = logging.DEBUG if what in self._warned else logging.WARNING
        self._warned.add(what)
        logger.log(level, "standalone-nfq: %s.", what, exc_info=level == logging.DEBUG)
