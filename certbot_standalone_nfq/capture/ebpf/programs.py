"""The programs of one capture, loaded once for each kind of link."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Hashable, Sequence

from certbot_standalone_nfq.capture.ebpf import egress, ingress, system
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.capture.protocols import port_of
from certbot_standalone_nfq.engine.protocols import Selector

NAME = "standalone_nfq"
"""By which administrators see them, in `bpftool prog` for example."""


class Programs:
    """Loaded programs, until `close`."""

    def __init__(self, selectors: Sequence[Selector], maps: Maps) -> None:
        """Prepare those that capture what the selectors select. The maps are the caller's."""
        self._selectors = selectors
        self._maps = maps
        self._loaded: dict[Hashable, int] = {}
        self._opened = contextlib.ExitStack()

    def ingress(self, link_header: int, *, other_hosts: bool = False) -> int:
        """Return the descriptor of what takes packets, on links with a header of 14 bytes, or of any other (0).

        With `other_hosts`, it is for ports of a bridge. Raises OSError. The descriptor is closed here.
        """
        write = functools.partial(ingress.write, self._selectors, self._maps, link_header, other_hosts=other_hosts)
        return self._program(("ingress", link_header, other_hosts), write)

    def egress(self, link_header: int) -> int:
        """Return the descriptor of what remembers handshakes; see `ingress`."""
        write = functools.partial(egress.write, port_of(self._selectors), self._maps, link_header)
        return self._program(("egress", link_header), write)

    def close(self) -> None:
        """Close the descriptors: what is attached goes on. Calling it again is no error."""
        self._loaded.clear()
        self._opened.close()

    def _program(self, key: Hashable, write: Callable[..., Code]) -> int:
        if key not in self._loaded:
            descriptor = _load(write)
            self._opened.callback(os.close, descriptor)
            self._loaded[key] = descriptor
        return self._loaded[key]


def _load(write: Callable[..., Code]) -> int:
    """Load a program. Without CAP_PERFMON, verifiers before Linux 6.6 let none look at packets where they are."""
    try:
        return system.load_program(write().assemble(), NAME)
    except system.Rejected as error:
        if error.errno != errno.EACCES:
            raise
    return system.load_program(write(sorts_out=False).assemble(), NAME)
