from __future__ import annotations

import logging

import pytest

from certbot_standalone_nfq.session.answer_log import LINES, AnswerLog

pytestmark = pytest.mark.anywhere


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_answer_has_a_line_and_a_minute_has_so_many(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level(logging.INFO)
    called: list[float] = []
    log = AnswerLog(lambda: called.append(clock.now), clock)
    for number in range(LINES):
        log.write(f"answer {number}")
    assert caplog.messages == [f"answer {number}" for number in range(LINES)]
    assert log.seconds_left() is None
    clock.now = 20
    log.write("one too many")
    log.write("another")
    assert (called, log.seconds_left(), len(caplog.messages)) == ([20], 40, LINES)
    clock.now = 59.9
    log.sum_up()
    assert len(caplog.messages) == LINES
    clock.now = 60
    log.sum_up()
    assert caplog.messages[LINES:] == ["2 more requests were answered in that minute."]
    assert log.seconds_left() is None


def test_the_next_minute_has_lines_of_its_own(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level(logging.INFO)
    log = AnswerLog(clock=clock)
    for _ in range(LINES + 3):
        log.write("answer")
    clock.now = 61
    log.write("later")
    assert caplog.messages[LINES:] == ["3 more requests were answered in that minute.", "later"]
    clock.now = 10_000
    log.sum_up()
    assert len(caplog.messages) == LINES + 2
