"""A tunnel between two hosts, whose packets have no link header: two TUN devices, and a program between them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import threading
from collections.abc import Iterator

from lab.hosts import Host
from lab.processes import load_module

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_ADDRESSES = (("10.9.0.1/24", "2001:db8:900::1/64"), ("10.9.0.2/24", "2001:db8:900::2/64"))


@contextlib.contextmanager
def tunnel(first: Host, second: Host) -> Iterator[tuple[str, str]]:
    """Join two hosts; return the second's addresses of both families."""
    with contextlib.ExitStack() as undo:
        ends = [_end(undo, host, addresses) for host, addresses in zip((first, second), _ADDRESSES)]
        stopped, stop = os.pipe()
        undo.callback(os.close, stopped)
        relay = threading.Thread(target=_relay, args=(*ends, stopped))
        relay.start()
        undo.callback(relay.join)
        undo.callback(os.close, stop)
        yield tuple(each.partition("/")[0] for each in _ADDRESSES[1])  # type: ignore[misc]


def _end(undo: contextlib.ExitStack, host: Host, addresses: tuple[str, ...]) -> int:
    load_module("tun")
    with host.inside():
        end = os.open("/dev/net/tun", os.O_RDWR)
        undo.callback(os.close, end)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
    host.run("ip", "link", "set", "tun0", "up")
    for address in addresses:
        host.run("ip", "address", "add", address, "dev", "tun0", *(["nodad"] if ":" in address else []))
    return end


def _relay(first: int, second: int, stopped: int) -> None:
    while True:
        ready, _, _ = select.select([first, second, stopped], [], [])
        if stopped in ready:
            return
        for end in ready:
            os.write(second if end == first else first, os.read(end, 1 << 16))
