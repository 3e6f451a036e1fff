from __future__ import annotations

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
