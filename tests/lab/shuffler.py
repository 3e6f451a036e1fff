"""A cable on which packets overtake each other: each is kept for a random time of its own."""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import threading
import time
from collections.abc import Iterator

from certbot_standalone_nfq.kernel.netlink_queue import NetlinkQueue
from certbot_standalone_nfq.kernel.nfnetlink import KernelVerdict
from certbot_standalone_nfq.kernel.queue import FOR_CHALLENGES
from tests.lab.hosts import Host

_QUEUE = 99
_LONGEST_DELAY = 0.03


@contextlib.contextmanager
def shuffling(host: Host, seed: int) -> Iterator[None]:
    """Let TCP packets from and to a host overtake each other while the context lasts."""
    with host.inside():
        queue = NetlinkQueue(_QUEUE, FOR_CHALLENGES)
    rule = ("-p", "tcp", "-j", "NFQUEUE", "--queue-num", str(_QUEUE), "--queue-bypass")
    for program in ("iptables", "ip6tables"):
        for hook in ("PREROUTING", "POSTROUTING"):
            host.run(program, "-t", "mangle", "-A", hook, *rule)
    stop = threading.Event()
    thread = threading.Thread(target=_shuffle, args=(queue, random.Random(seed), stop), name="shuffler")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        queue.close()


def _shuffle(queue: NetlinkQueue, chance: random.Random, stop: threading.Event) -> None:
    kept: list[tuple[float, int]] = []
    while not stop.is_set():
        now = time.monotonic()
        while kept and kept[0][0] <= now:
            queue.give_verdict(heapq.heappop(kept)[1], KernelVerdict.ACCEPT)
        select.select([queue], [], [], max(0.0, kept[0][0] - now) if kept else 0.1)
        for packet in queue.receive():
            heapq.heappush(kept, (time.monotonic() + chance.random() * _LONGEST_DELAY, packet.id))
