from __future__ import annotations

import pytest

from certbot_standalone_nfq.capture.nfqueue import state
from certbot_standalone_nfq.capture.nfqueue.netlink_client import NetlinkQueue
from certbot_standalone_nfq.capture.nfqueue.queue import FOR_CHALLENGES
from lab.hosts import Host


def test_a_queue_is_shown_while_something_listens_to_it(lonely_host: Host) -> None:
    with lonely_host.inside():
        assert state.bound_queues() == set()
        queue = NetlinkQueue(7, FOR_CHALLENGES)
        assert state.has_queues()
        assert state.bound_queues() == {7}
        assert state.waiting_packets() == 0
        queue.close()
        assert state.has_queues()
        assert state.bound_queues() == set()


def test_waiting_ends_when_nothing_waits_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = iter([2, 1, 0])
    monkeypatch.setattr(state, "waiting_packets", lambda: next(waiting))
    state.wait_until_empty(10)
    assert list(waiting) == []


def test_waiting_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "waiting_packets", lambda: 1)
    state.wait_until_empty(0.01)
