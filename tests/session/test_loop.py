"""The loop between a capture that a test plays and a real engine: whatever happens, each packet gets one verdict."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.session.injector import Injector
from certbot_standalone_nfq.session.loop import Loop
from lab.processes import wait_until

pytestmark = pytest.mark.anywhere


@dataclass(frozen=True)
class Packet:
    """One that the engine lets pass."""

    id: int
    payload: bytes = b"\x45 is not enough of a packet"
    length: int = 1500
    interface: int = 0
    mark: int = 0
    verified: bool = True
    forwarded: bool = False
    proven: bool = False


@dataclass
class PlayedCapture:
    """Captures what a test gives it."""

    by_rules: ClassVar[bool] = False

    waiting: list[Packet] = field(default_factory=list)
    decided: list[tuple[int, Verdict]] = field(default_factory=list)
    abandoned: bool = False
    on_receive: Callable[[], None] = lambda: None
    on_decide: Callable[[], None] = lambda: None
    on_withdraw: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._readable, self._wake = os.pipe()
        self._ids = itertools.count()

    def bring(self, count: int) -> None:
        self.waiting += [Packet(next(self._ids)) for _ in range(count)]
        os.write(self._wake, b"\0")

    def fileno(self) -> int:
        return self._readable

    def receive(self) -> Sequence[Packet]:
        self.on_receive()
        if not self.waiting:
            return []
        os.read(self._readable, 1)
        received, self.waiting[:2] = self.waiting[:2], []
        if self.waiting:
            os.write(self._wake, b"\0")
        return received

    def decide(self, packet: Packet, verdict: Verdict, replacement: bytes | None = None) -> None:
        self.decided.append((packet.id, verdict))
        self.on_decide()

    def expect(self, keys: Collection[bytes]) -> None:
        raise AssertionError("the loop does not know what is pending")

    def way_back(self, packet: Packet) -> None:
        return None

    def restore(self) -> bool:
        return False

    def withdraw(self) -> None:
        self.on_withdraw()

    def abandon(self) -> None:
        self.abandoned = True

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._wake)


@pytest.fixture
def capture() -> Iterator[PlayedCapture]:
    with contextlib.closing(PlayedCapture()) as played:
        yield played


@pytest.fixture
def loop(capture: PlayedCapture) -> Iterator[Loop]:
    with contextlib.closing(Injector()) as injector:
        loop = Loop(capture, Engine([]), injector, lambda _: None)
        loop.start()
        yield loop


def refuse() -> None:
    raise errors.FirewallRefused("iptables", "the disk is full")


def test_what_waits_when_the_capture_is_withdrawn_gets_its_verdict(capture: PlayedCapture, loop: Loop) -> None:
    capture.bring(1)
    capture.on_withdraw = lambda: capture.bring(5)
    loop.stop()
    assert capture.decided == [(number, Verdict.PASS) for number in range(6)]
    assert not capture.abandoned


def test_what_waits_gets_its_verdict_as_well_if_the_capture_cannot_be_withdrawn(
    capture: PlayedCapture, loop: Loop
) -> None:
    capture.bring(5)
    capture.on_withdraw = refuse
    with pytest.raises(errors.FirewallRefused, match="the disk is full"):
        loop.stop()
    assert [number for number, _ in capture.decided] == list(range(5))


def test_packets_that_come_on_and_on_as_the_capture_cannot_be_withdrawn_do_not_keep_the_loop_from_ending(
    capture: PlayedCapture, loop: Loop
) -> None:
    threads = threading.active_count()
    capture.on_withdraw = refuse
    capture.on_decide = lambda: capture.bring(1)
    capture.bring(1)
    with pytest.raises(errors.FirewallRefused, match="the disk is full"):
        loop.stop()
    assert threading.active_count() == threads - 1
    assert not capture.abandoned


def test_a_verdict_that_cannot_be_given_is_told_once_and_does_not_end_the_loop(
    capture: PlayedCapture, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_verdict() -> None:
        raise OSError

    capture.on_decide = refuse_verdict
    capture.bring(3)
    loop.stop()
    assert len(capture.decided) == 3
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["standalone-nfq: a packet's verdict could not be given."]


def test_a_capture_that_fails_is_abandoned_so_that_packets_pass(
    capture: PlayedCapture, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError

    capture.on_receive = fail
    capture.bring(1)
    wait_until(lambda: capture.abandoned, "the capture is abandoned")
    loop.stop()
    assert "go to the web server from here on" in caplog.text


def test_who_has_to_know_is_told_that_a_loop_has_failed(capture: PlayedCapture) -> None:
    def fail() -> None:
        raise OSError

    told = threading.Event()
    capture.on_receive = fail
    with contextlib.closing(Injector()) as injector:
        loop = Loop(capture, Engine([]), injector, lambda _: None, failed=told.set)
        loop.start()
        assert loop.responds_within(5)
        capture.bring(1)
        assert told.wait(5)
        wait_until(lambda: not loop.responds_within(0.1), "the thread has ended")
        loop.stop()


def test_a_loop_that_hangs_does_not_respond(loop: Loop) -> None:
    with loop.lock, concurrent.futures.ThreadPoolExecutor(1) as other:
        assert not other.submit(loop.responds_within, 0.05).result()
    assert loop.responds_within(5)
    loop.stop()


def test_an_interruption_while_answers_are_completed_ends_the_loop_as_well(capture: PlayedCapture, loop: Loop) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    capture.on_withdraw = interrupt
    capture.bring(2)
    with pytest.raises(KeyboardInterrupt):
        loop.stop()
    assert len(capture.decided) == 2
