from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.session.guard import Guard
from lab.processes import wait_until


class RemovedRules:
    """Rules that another program removes all the time, and that at first cannot be added again."""

    by_rules = True

    def __init__(self, failures: int = 0, *, by_rules: bool = True) -> None:
        self.by_rules = by_rules
        self.looks = 0
        self._failures = failures

    def restore(self) -> bool:
        self.looks += 1
        if self.looks <= self._failures:
            raise errors.firewall_locked("iptables", 5)
        return True


def guarding(rules: RemovedRules) -> Iterator[Guard]:
    guard = Guard(rules, None, slow_seconds=0.01, retry_seconds=0.01)  # type: ignore[arg-type] # all it uses
    guard.start()
    yield guard
    guard.stop()


def test_where_the_kernel_tells_nothing_it_looks_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    rules = RemovedRules()
    for _ in guarding(rules):
        wait_until(lambda: rules.looks >= 2, "it looks again and again")
    assert caplog.messages == ["Another program removed this plugin's firewall rules; they were added again."]


def test_what_cannot_be_added_again_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    rules = RemovedRules(failures=1)
    for _ in guarding(rules):
        wait_until(lambda: rules.looks >= 2, "it tries again")
        wait_until(lambda: len(caplog.messages) >= 2, "it says so")
    assert caplog.messages[0].startswith(
        "The firewall rules are missing, and could not be added again: iptables waited"
    )
    assert caplog.messages[1].endswith("they were added again.")


def test_what_consists_of_no_rules_needs_no_thread() -> None:
    before = threading.active_count()
    for _ in guarding(RemovedRules(by_rules=False)):
        assert threading.active_count() == before
