"""What distinguishes one interception's rules from another's: its port, its queue, its marks.

A plan's queue number is also its lock. The kernel lets one socket listen to a queue, a plan's chains are named
after its queue, and its two mark bits belong to it as well: so runs at the same time share nothing, and chains
whose queue nobody listens to are left over from a run that was cut off. The run is in the names, too, as the guard of
a dead run may still be removing its rules when the next one takes the same queue.
"""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Marks:
    """The two bits of ours in packet and connection marks.

    Two, as common rules copy a connection's mark to its packets: what says 'this packet has been decided on' must not
    be what says 'this connection is of interest'.
    """

    connection: int
    """Set in the mark of connections all of whose packets are to be queued."""
    released: int
    """Set in the mark of packets that have been decided on, from the verdict to the next pass of our rules."""

    @property
    def both(self) -> int:
        """The mask of the two."""
        return self.connection | self.released

    @classmethod
    def from_mask(cls, mask: int) -> Marks:
        """Return the marks with the bits of a mask. Raises ValueError unless it is two bits of 32."""
        bits = [1 << bit for bit in range(32) if mask >> bit & 1]
        if len(bits) != 2 or mask >> 32:
            raise ValueError(f"{mask:#x} is not two bits out of 32")
        return cls(*bits)


class Selection(enum.Enum):
    """Which packets are queued, the values being the option's. Each needs less of the kernel than the one before."""

    PREFILTER = "prefilter"
    """What begins like a challenge request, and then its connection: picked in the kernel."""
    PORT = "port"
    """Every packet of the connections that clients opened to the port."""
    STATELESS_PORT = "stateless-port"
    """Every packet for this machine that has the port as its destination: that takes no connection tracking."""


class RunId(NamedTuple):
    """What a plan's rules are found by: its queue, and four hexadecimal digits for the run."""

    queue: int
    run: str


@dataclass(frozen=True)
class Allocation:
    """One interception's rules: the TCP port that clients address, the label, the marks, the packets."""

    port: int
    run_id: RunId
    marks: Marks
    selection: Selection = Selection.PREFILTER

    @property
    def queue(self) -> int:
        """The queue's number."""
        return self.run_id.queue


_FIRST_QUEUE = 28080
_MASKS = (0x3000_0000, 0xC000_0000, 0x0C00_0000, 0x0300_0000)


def candidates(
    port: int,
    queue: int | None = None,
    marks: Marks | None = None,
    selection: Selection = Selection.PREFILTER,
) -> list[Allocation]:
    """Return the plans to try in turn; a queue or marks that the user chose stand in each."""
    run = secrets.token_hex(2)
    run_ids = [RunId(_FIRST_QUEUE + index if queue is None else queue, run) for index in range(len(_MASKS))]
    found = [
        Allocation(port, run_id, marks or Marks.from_mask(mask), selection) for run_id, mask in zip(run_ids, _MASKS)
    ]
    return list(dict.fromkeys(found))
