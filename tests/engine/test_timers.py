"""Timers: one for each of many things."""

from __future__ import annotations

from certbot_standalone_nfq.engine.timers import Timers
from tests.engine.kept import kept_by


def test_what_is_due_comes_in_order_and_only_once() -> None:
    timers: Timers[str] = Timers()
    for key, time in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
        timers.set(key, time)
    assert timers.next() == 1.0
    assert timers.due(2.0) == ["early", "middle"]
    assert timers.due(2.0) == []
    assert timers.next() == 3.0


def test_a_timer_can_be_set_earlier_but_not_later() -> None:
    timers: Timers[str] = Timers()
    for time in (2.0, 1.0, 3.0):
        timers.set("key", time)
    assert timers.due(1.0) == ["key"]
    assert timers.due(5.0) == []


def test_a_forgotten_timer_does_not_go_off_and_one_set_anew_does() -> None:
    timers: Timers[str] = Timers()
    timers.set("key", 1.0)
    timers.forget("key")
    timers.forget("never there")
    assert timers.next() is None
    timers.set("key", 2.0)
    assert timers.due(1.5) == []
    assert timers.due(2.0) == ["key"]


def test_forgotten_timers_take_no_room_for_long() -> None:
    timers: Timers[int] = Timers()
    for key in range(10_000):
        timers.set(key, 1000.0 + key)
        timers.forget(key - 10)
    assert len(kept_by(timers, tuple)) < 200
    assert timers.due(1e9) == list(range(9_990, 10_000))


def test_what_is_due_comes_in_order_also_after_many_were_forgotten() -> None:
    timers: Timers[int] = Timers()
    for key in range(100):
        timers.set(key, 5000.0 - key)
    for key in range(100, 1000):
        timers.set(key, 9000.0)
        timers.forget(key)
    assert timers.due(1e9) == list(range(99, -1, -1))


def test_a_timer_that_is_set_again_and_again_takes_no_more_room() -> None:
    timers: Timers[str] = Timers()
    for _ in range(1000):
        timers.set("key", 1.0)
    assert len(kept_by(timers, tuple)) < 10
