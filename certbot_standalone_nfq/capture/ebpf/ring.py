"""A ring that programs write records to, read where it is: Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c.

The first page of its memory is the reader's position, which we write. The second is the writers', and the records
follow, twice in a row: so one that goes beyond the end is read in one piece.
"""

from __future__ import annotations

import mmap
import sys
import threading
from collections.abc import Iterator

from certbot_standalone_nfq.capture.ebpf.system import Map

_BEING_WRITTEN, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8
_PAGE = mmap.PAGESIZE


class Ring:
    """The reading end, until `close`. For one thread at a time."""

    def __init__(self, map_: Map, size: int) -> None:
        """Map a ring of so many bytes into memory. Raises OSError."""
        self._mask = size - 1
        self._reader = mmap.mmap(map_.descriptor, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            self._records = mmap.mmap(map_.descriptor, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        except BaseException:
            self._reader.close()
            raise
        # As numbers of the kernel's size, so that each is read and written in one step.
        self._read_up_to = memoryview(self._reader).cast("L")
        self._written_up_to = memoryview(self._records)[:_HEADER].cast("L")
        self._order = threading.Lock()

    def read(self, limit: int) -> Iterator[bytes]:
        """Yield the records that are there, at most so many; each makes room when the next is asked for."""
        position = self._read_up_to[0]
        for _ in range(limit):
            if position == self._written_up_to[0]:
                return
            self._keep_order()
            begin = _PAGE + (position & self._mask)
            header = int.from_bytes(self._records[begin : begin + 4], sys.byteorder)
            if header & _BEING_WRITTEN:
                return
            self._keep_order()
            length = header & ~(_BEING_WRITTEN | _DISCARDED)
            record = self._records[begin + _HEADER : begin + _HEADER + length]
            position += (_HEADER + length + 7) & ~7
            self._keep_order()
            self._read_up_to[0] = position
            if not header & _DISCARDED:
                yield record

    def close(self) -> None:
        """Unmap it. Calling it again is no error."""
        for view in (self._read_up_to, self._written_up_to):
            view.release()
        self._reader.close()
        self._records.close()

    def _keep_order(self) -> None:
        """Have this processor do what came before it first: reads of positions, and of what they say is there.

        What comes before a lock's release does, and what comes after it is taken again comes after both.
        """
        with self._order:
            pass
        with self._order:
            pass
