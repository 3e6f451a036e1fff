"""The loop between a capture on one side, and the engine and the injector on the other, on a thread of its own.

The thread alone receives packets and decides on them. Whatever fails in it, a packet gets a verdict, and when in doubt
it passes.
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
from typing import Any

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.protocols import Capture, CapturedPacket
from certbot_standalone_nfq.engine.datagrams import DatagramReaction
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.verdicts import Answered, Event, Reaction, Verdict
from certbot_standalone_nfq.session.injector import Injector
from certbot_standalone_nfq.session.return_paths import Addressed, ReturnPaths
from certbot_standalone_nfq.wire import tcp, udp
from certbot_standalone_nfq.wire.tcp import Segment
from certbot_standalone_nfq.wire.udp import Datagram

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""How long to wait, at the end, for peers to acknowledge the answers under way."""
DRAIN_SECONDS = 1.0
"""How long to decide on the packets that wait at the end. More come only where the capture could not be withdrawn."""
_JOIN_SECONDS = 5.0
_MAX_LOGGED = 1000
"""Decisions to log, and likewise failures, as any peer can cause them."""
_PASS = Reaction(Verdict.PASS)


class Loop:
    """Has the engine decide on captured packets, from `start` to `stop`."""

    def __init__(  # noqa: PLR0913 - all that it stands between
        self,
        capture: Capture[Any],
        engine: Engine,
        injector: Injector,
        tell: Callable[[Event], object],
        record: Callable[[bytes], object] | None = None,
        *,
        failed: Callable[[], object] = lambda: None,
        sources_translated: bool = False,
    ) -> None:
        """Prepare. Capture and injector are the caller's to close, after `stop`.

        `tell` is called on the thread for every event of the engine's;
        `record`, if given, for every packet of an answered connection, in either direction; `failed`, if the thread
        has to end before `stop`. With `sources_translated`, there are rules that have packets for this machine come
        from another address than their sender's.
        """
        self.lock = threading.Condition()
        """Held while the engine handles packets: hold it to change what its solvers answer."""
        self._capture = capture
        self._engine = engine
        self._injector = injector
        self._tell = tell
        self._record = record
        self._failed = failed
        self._sources_translated = sources_translated
        self._paths = ReturnPaths()
        self._warned: set[str] = set()
        self._warnings = 0
        self._decisions = 0
        self._stopping = False
        self._stop_by = 0.0
        self._opened = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._run, name="standalone-nfq", daemon=True)

    def start(self) -> None:
        """Start the thread. If that is interrupted, `stop` undoes it."""
        self._wake_read, self._wake_write = os.pipe()
        self._opened.callback(os.close, self._wake_read)
        self._opened.callback(os.close, self._wake_write)
        self._thread.start()

    def stop(self) -> None:
        """Complete the answers under way, capture no further packets, and decide on those that wait.

        Raises one of the package's errors if the capture goes on, whose `close` ends it.
        """
        try:
            with self.lock:
                self.lock.wait_for(self._engine.settled, SETTLE_SECONDS)
            self._capture.withdraw()
        finally:
            self._end()

    def responds_within(self, seconds: float) -> bool:
        """Whether the thread runs, and is not busy with the same packets for so long."""
        if not self.lock.acquire(timeout=seconds):
            return False
        self.lock.release()
        return self._thread.is_alive()

    def _end(self) -> None:
        """End the thread, once it has given a verdict on every packet that waits."""
        self._stop_by = time.monotonic() + DRAIN_SECONDS
        self._stopping = True
        if self._thread.is_alive():
            os.write(self._wake_write, b"\0")
            self._thread.join(_JOIN_SECONDS)
        self._opened.close()

    def _run(self) -> None:
        """Handle packets and deadlines until stopped; if that fails, let all packets pass."""
        try:
            self._handle_until_stopped()
        except Exception as error:
            errors.raise_interruption(error)
            self._capture.abandon()
            logger.warning("Challenge requests go to the web server from here on: %s", error, exc_info=True)
            self._failed()

    def _handle_until_stopped(self) -> None:
        poll = select.poll()
        poll.register(self._capture, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            poll.poll(self._milliseconds_to_deadline())
            now = time.monotonic()  # however long this round takes, what came meanwhile is read before the next tick
            packets = self._capture.receive()
            with self.lock:
                for packet in packets:
                    self._handle(packet)
                self._send(self._engine.tick(now))
                self.lock.notify_all()
            if self._stopping and (not packets or time.monotonic() > self._stop_by):
                return  # nothing is left that was captured before the withdrawal, or there was none

    def _milliseconds_to_deadline(self) -> float | None:
        deadline = self._engine.deadline()
        return None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000

    def _handle(self, packet: CapturedPacket) -> None:
        if udp.is_udp(packet.payload):
            self._handle_datagram(packet)
        else:
            self._handle_segment(packet)

    def _handle_datagram(self, packet: CapturedPacket) -> None:
        began = time.monotonic()
        try:
            reaction = self._engine.datagrams.handle(packet.payload, began, packet.interface, verified=packet.verified)
        except Exception as error:
            errors.raise_interruption(error)
            self._warn_once("handling a datagram failed, and it passes")
            reaction = DatagramReaction(Verdict.PASS)
        if reaction.verdict is not Verdict.PASS:
            self._note(packet, reaction.verdict)
        # Connection tracking knows the flow only once the packet has gone on; a strict firewall lets replies out then.
        self._decide(packet, reaction.verdict, reaction.replacement)
        if reaction.reply:
            self._reply(packet, reaction.reply)
        if reaction.event:
            self._tell(dataclasses.replace(reaction.event, seconds=time.monotonic() - began))

    def _reply(self, packet: CapturedPacket, reply: Datagram) -> None:
        try:
            way = self._capture.way_back(packet)
            if way:
                way.send(udp.write(reply))
            else:
                look_up = packet.forwarded or self._sources_translated
                self._injector.send(self._paths.address_reply(reply) if look_up else reply)
            if self._record:
                self._record(udp.write(reply))  # as its client gets it
        except Exception as error:
            errors.raise_interruption(error)
            self._warn_once(f"a reply to {reply.destination} could not be sent ({error})")

    def _handle_segment(self, packet: CapturedPacket) -> None:
        began = time.monotonic()
        try:
            reaction = self._engine.handle(
                packet.payload,
                began,
                packet.interface,
                packet.length,
                verified=packet.verified,
                forwarded=packet.forwarded,
                proven=packet.proven,
            )
            replacement = tcp.write(reaction.reset) if reaction.reset else None
            if reaction.reset:
                way = self._capture.way_back(packet)
                self._paths.learn(reaction.reset.connection, packet.mark, forwarded=packet.forwarded, way=way)
        except Exception as error:
            errors.raise_interruption(error)
            self._warn_once("handling a packet failed, and it passes")
            reaction, replacement = _PASS, None
        if reaction.verdict is not Verdict.PASS:
            self._note(packet, reaction.verdict)
        self._decide(packet, reaction.verdict, replacement)
        if reaction.reset and not self._engine.confirm(reaction.reset.connection):
            return  # the request was a stranger's guess
        self._send(reaction.send)
        if isinstance(reaction.event, Answered):
            self._tell(dataclasses.replace(reaction.event, seconds=time.monotonic() - began))
        elif reaction.event:
            self._tell(reaction.event)

    def _decide(self, packet: CapturedPacket, verdict: Verdict, replacement: bytes | None) -> None:
        try:
            self._capture.decide(packet, verdict, replacement)
        except OSError:
            self._warn_once("a packet's verdict could not be given")

    def _send(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            try:
                self._send_one(self._paths.address(segment))
                if self._record:
                    self._record(tcp.write(segment))  # as its client gets it
            except Exception as error:
                errors.raise_interruption(error)
                self._warn_once(f"a segment to {segment.destination} could not be sent ({error}); it will be repeated")

    def _send_one(self, addressed: Addressed) -> None:
        if addressed.way:
            addressed.way.send(tcp.write(addressed.segment))
        else:
            self._injector.send(addressed.segment, addressed.mark)

    def _note(self, packet: CapturedPacket, verdict: Verdict) -> None:
        if self._record and verdict is not Verdict.WATCH:
            self._record(packet.payload)
        self._decisions += 1
        if self._decisions <= _MAX_LOGGED:
            logger.debug("A packet of %d bytes: %s", packet.length, verdict.name)

    def _warn_once(self, what: str) -> None:
        if self._warnings == _MAX_LOGGED:
            return
        self._warnings += 1
        level = logging.DEBUG if what in self._warned else logging.WARNING
        self._warned.add(what)
        logger.log(level, "standalone-nfq: %s.", what, exc_info=level == logging.DEBUG)
