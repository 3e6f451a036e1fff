"""The programs of one capture, loaded once for each kind of link."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from certbot_standalone_nfq.capture.ebpf import system
from certbot_standalone_nfq.capture.ebpf.assembler import R0, Assembler

TCX_NEXT = -1
"""What a program returns that leaves a packet to the next one; as TC_ACT_UNSPEC, to the next filter."""


class Programs:
    """Loaded programs, until `close`."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, int], int] = {}
        self._opened = contextlib.ExitStack()

    def ingress(self, link_header: int) -> int:
        """Return the descriptor of what takes packets, on links with a header of 14 bytes, or of any other (0).

        Raises OSError. The descriptor is closed here.
        """
        return self._program("ingress", link_header, _passing)

    def egress(self, link_header: int) -> int:
        """Return the descriptor of what remembers handshakes; see `ingress`."""
        return self._program("egress", link_header, _passing)

    def close(self) -> None:
        """Close the descriptors: what is attached goes on. Calling it again is no error."""
        self._loaded.clear()
        self._opened.close()

    def _program(self, kind: str, link_header: int, write: Callable[[int], Assembler]) -> int:
        key = (kind, link_header)
        if key not in self._loaded:
            descriptor = system.load_program(write(link_header).assemble(), "standalone_nfq")
            self._opened.callback(os.close, descriptor)
            self._loaded[key] = descriptor
        return self._loaded[key]


def _passing(_: int) -> Assembler:
    code = Assembler()
    code.set(R0, TCX_NEXT)
    code.exit()
    return code
