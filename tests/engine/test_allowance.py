"""A bound on how often something may be done, or for how long."""

from __future__ import annotations

from certbot_standalone_nfq.engine.allowance import Allowance


def test_an_allowance_is_so_many_a_second_however_long_it_was_quiet() -> None:
    allowance = Allowance(10)
    for now in (100.0, 1000.0):
        assert [allowance.take(now) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [allowance.take(1000.25) for _ in range(4)] == [True, True, False, False]


def test_an_allowance_of_seconds_gains_less_than_it_holds() -> None:
    allowance = Allowance(0.125, most=1)
    assert [allowance.take(100.0, 0.5) for _ in range(3)] == [True, True, False]
    assert [allowance.take(104.0, 0.5) for _ in range(2)] == [True, False]
    assert [allowance.take(1000.0, 0.75) for _ in range(2)] == [True, False]


def test_what_is_more_than_is_left_takes_nothing() -> None:
    allowance = Allowance(0.125, most=1)
    assert not allowance.take(100.0, 1.5)
    assert allowance.take(100.0, 1.0)
