"""Cables on which packets take long, overtake each other, or arrive damaged."""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import threading
import time
from collections.abc import Callable, Iterator

from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict
from certbot_standalone_nfq.capture.nfqueue.netlink_client import NetlinkQueue
from certbot_standalone_nfq.capture.nfqueue.queue import FOR_CHALLENGES
from certbot_standalone_nfq.wire.tcp import Connection, connection_of, locate
from lab.hosts import Host

LOST = ("-j", "NFQUEUE", "--queue-num", "98")
"""The end of a rule that loses a packet as a cable does: in a queue that nobody reads.

DROP would report the loss to the sender's TCP, which then waits longer before it tries again.
"""
_QUEUE = 99
_LONGEST_DELAY = 0.03
_FAR = 0.05
_INSPECTION = 0.002
_ACKNOWLEDGMENT_NUMBER = 8
_SECONDS_TO_STOP = 0.1


@contextlib.contextmanager
def shuffling(host: Host, seed: int) -> Iterator[None]:
    """Let TCP packets from and to a host overtake each other while the context lasts."""
    chance = random.Random(seed)
    with _keeping(host, lambda: chance.random() * _LONGEST_DELAY):
        yield


@contextlib.contextmanager
def far(host: Host) -> Iterator[None]:
    """Let TCP packets from and to a host take a while, each as long as any other."""
    with _keeping(host, lambda: _FAR):
        yield


@contextlib.contextmanager
def inspecting(host: Host) -> Iterator[None]:
    """Have a program look at each TCP packet behind all rules of the mangle table, as one that detects attacks."""
    with _handling(host, ("INPUT",), _inspect, table="filter"):
        yield


@contextlib.contextmanager
def damaging_first_data(host: Host) -> Iterator[None]:
    """Flip a bit in the first segment with data of each connection from a host, while the context lasts."""
    with _handling(host, ("POSTROUTING",), _damage):
        yield


@contextlib.contextmanager
def _keeping(host: Host, seconds: Callable[[], float]) -> Iterator[None]:
    with _handling(host, ("PREROUTING", "POSTROUTING"), lambda queue, stop: _keep(queue, seconds, stop)):
        yield


@contextlib.contextmanager
def _handling(
    host: Host, hooks: tuple[str, ...], handle: Callable[[NetlinkQueue, threading.Event], None], table: str = "mangle"
) -> Iterator[None]:
    with host.inside():
        queue = NetlinkQueue(_QUEUE, FOR_CHALLENGES)
    rule = ("-p", "tcp", "-j", "NFQUEUE", "--queue-num", str(_QUEUE), "--queue-bypass")
    for program in ("iptables", "ip6tables"):
        for hook in hooks:
            host.run(program, "-t", table, "-A", hook, *rule)
    stop = threading.Event()
    thread = threading.Thread(target=handle, args=(queue, stop), name="cable")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        queue.close()


def _keep(queue: NetlinkQueue, seconds: Callable[[], float], stop: threading.Event) -> None:
    kept: list[tuple[float, int]] = []
    while not stop.is_set():
        now = time.monotonic()
        while kept and kept[0][0] <= now:
            queue.give_verdict(heapq.heappop(kept)[1], KernelVerdict.ACCEPT)
        select.select([queue], [], [], max(0.0, kept[0][0] - now) if kept else _SECONDS_TO_STOP)
        for packet in queue.receive():
            heapq.heappush(kept, (time.monotonic() + seconds(), packet.id))


def _inspect(queue: NetlinkQueue, stop: threading.Event) -> None:
    while not stop.is_set():
        select.select([queue], [], [], _SECONDS_TO_STOP)
        for packet in queue.receive():
            time.sleep(_INSPECTION)
            queue.give_verdict(packet.id, KernelVerdict.ACCEPT)


def _damage(queue: NetlinkQueue, stop: threading.Event) -> None:
    seen: set[Connection] = set()
    while not stop.is_set():
        select.select([queue], [], [], _SECONDS_TO_STOP)
        for packet in queue.receive():
            layout = locate(packet.payload, packet.length)
            connection = connection_of(packet.payload, layout)
            octets = bytearray(packet.payload)
            if layout.payload < layout.end and connection not in seen:
                seen.add(connection)
                octets[layout.tcp + _ACKNOWLEDGMENT_NUMBER] ^= 0x40
                queue.give_verdict(packet.id, KernelVerdict.ACCEPT, payload=bytes(octets))
            else:
                queue.give_verdict(packet.id, KernelVerdict.ACCEPT)
