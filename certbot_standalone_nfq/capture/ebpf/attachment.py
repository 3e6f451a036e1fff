"""Programs at the traffic control hooks of an interface, nearest to the wire.

From Linux 6.6 on, and where that has been ported back, by a link of TCX: it ends with its descriptor, and so with this
process, however that ends. Else by a filter of a clsact qdisc, which does not: so the filter is a stub that only calls
our program, out of an array that the kernel empties when its last descriptor is closed. What a dead process leaves
passes every packet, and the next run removes it.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import struct
from typing import Protocol

from certbot_standalone_nfq.capture.ebpf import system
from certbot_standalone_nfq.capture.ebpf.assembler import R0, R2, R3, Assembler
from certbot_standalone_nfq.capture.ebpf.code import NEXT
from certbot_standalone_nfq.capture.ebpf.filters import Filter, Owner, add
from certbot_standalone_nfq.capture.ebpf.layout import Helper

_BPF_F_BEFORE, _BPF_F_AFTER = 1 << 3, 1 << 4
_BPF_TCX_INGRESS, _BPF_TCX_EGRESS = 46, 47

_WITHOUT_TCX = (errno.EINVAL, errno.EOPNOTSUPP)
"""What BPF_LINK_CREATE says to types of links that it does not know."""


class Direction(enum.Enum):
    """Where packets of an interface go."""

    INGRESS = _BPF_TCX_INGRESS, _BPF_F_BEFORE
    EGRESS = _BPF_TCX_EGRESS, _BPF_F_AFTER


class Attachment(Protocol):
    """A program at an interface."""

    def close(self) -> None:
        """Detach it. Calling it again, or when the interface has gone, is no error."""


def attach(index: int, direction: Direction, program: int, owner: Owner) -> Attachment:
    """Attach a program, given its descriptor, to an interface, given its index.

    Raises OSError, and errors.CaptureUnavailable.
    """
    try:
        return _TcxLink(index, direction, program)
    except OSError as error:
        if error.errno not in _WITHOUT_TCX:
            raise
    return _Stub(index, direction, program, owner)


class _TcxLink:
    def __init__(self, index: int, direction: Direction, program: int) -> None:
        hook, place = direction.value
        attributes = struct.pack("=IIIIIIQ", program, index, hook, place, 0, 0, 0)
        self._descriptor = system.call(system.Command.LINK_CREATE, attributes)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class _Stub:
    """A filter, and the array by which it finds the program: emptied by `close`, whatever becomes of the filter."""

    def __init__(self, index: int, direction: Direction, program: int, owner: Owner) -> None:
        with contextlib.ExitStack() as undo:
            programs = system.Map(system.MapType.PROG_ARRAY, 4, 4, 1)
            undo.callback(programs.close)
            programs[struct.pack("=I", 0)] = struct.pack("=I", program)
            stub = system.load_program(_calling(programs).assemble(), "standalone_stub")
            undo.callback(os.close, stub)
            self._filter: Filter = add(index, stub, owner, egress=direction is Direction.EGRESS)
            undo.callback(self._filter.remove)
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()


def _calling(programs: system.Map) -> Assembler:
    code = Assembler()
    code.set_map(R2, programs.descriptor)
    code.set(R3, 0)
    code.call(Helper.TAIL_CALL)
    code.set(R0, NEXT)
    code.exit()
    return code
