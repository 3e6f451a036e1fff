"""What distinguishes one run's rules from another's: its queue, its marks, and what it captures.

The queue number is also a lock. The kernel lets one socket listen to a queue, the rules' names contain the number,
and two mark bits belong to it. So runs at the same time share nothing, and rules whose queue has no listener are
left over from an interrupted run. Their names contain the run as well, as the watchdog of a dead run may still be
removing its rules when the next run takes the same queue.
"""

from __future__ import annotations

import enum
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from certbot_standalone_nfq.capture.protocols import port_of
from certbot_standalone_nfq.engine.protocols import Selector, Transport


@dataclass(frozen=True)
class Marks:
    """The two bits of ours in packet and connection marks.

    Two, as common rules copy a connection's mark to its packets: the bit for 'this packet has been decided on' must
    not be the bit for 'this connection is of interest'.
    """

    connection: int
    """Set in the mark of a connection whose packets are to be queued."""
    released: int
    """Set in the mark of a packet that has been decided on, from the verdict to its next pass through our rules."""

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
    """What the selectors match, and over TCP then its connection: picked in the kernel."""
    PORT = "port"
    """Every packet of the connections that clients opened to the port, and every datagram."""
    STATELESS_PORT = "stateless-port"
    """Every packet for this machine that has the port as its destination: this needs no connection tracking."""


class RunId(NamedTuple):
    """What the rules of a run are found by: its queue, and four hexadecimal digits for the run."""

    queue: int
    run: str


_RUN_ID = re.compile(r"\b(?i:certbot-nfq)-(\d+)-([0-9a-f]{4})\b")


def run_ids(text: str) -> set[RunId]:
    """Return the runs whose chains or tables are named in a text, such as rules that a program shows."""
    return {RunId(int(queue), run) for queue, run in _RUN_ID.findall(text)}


@dataclass(frozen=True)
class Allocation:
    """What belongs to one run: its queue, its marks, and the packets to capture."""

    selectors: tuple[Selector, ...]
    """What to capture, on one port."""
    run_id: RunId
    marks: Marks
    selection: Selection = Selection.PREFILTER
    tracked: bool = True
    """Whether rules may use connection tracking."""

    @property
    def queue(self) -> int:
        """The queue's number."""
        return self.run_id.queue

    @property
    def port(self) -> int:
        """The port that clients address."""
        return port_of(self.selectors)

    @property
    def transports(self) -> tuple[Transport, ...]:
        """What there are selectors for."""
        return tuple(transport for transport in Transport if self.selectors_over(transport))

    def selectors_over(self, transport: Transport) -> tuple[Selector, ...]:
        """Return the selectors for one of them."""
        return tuple(selector for selector in self.selectors if selector.transport is transport)


_FIRST_QUEUE = 28080
_MASKS = (0x3000_0000, 0xC000_0000, 0x0C00_0000, 0x0300_0000)
_SPARE_MASKS = (0x0090_0000, 0x0000_0300)
"""Where other rules use bits of all of those, as one does that marks packets with four letters."""


def candidates(  # noqa: PLR0913 - all that allocations differ in
    selectors: Sequence[Selector],
    queue: int | None = None,
    marks: Marks | None = None,
    selection: Selection = Selection.PREFILTER,
    *,
    spare: bool = False,
    tracked: bool = True,
) -> list[Allocation]:
    """Return the allocations to try in turn; a queue or marks that the user chose are in each of them.

    The spare ones are for where other rules use bits of the marks of all others.
    """
    run = secrets.token_hex(2)
    first, masks = (len(_MASKS), _SPARE_MASKS) if spare else (0, _MASKS)
    found = [
        Allocation(
            tuple(selectors),
            RunId(_FIRST_QUEUE + index if queue is None else queue, run),
            marks or Marks.from_mask(mask),
            selection,
            tracked,
        )
        for index, mask in enumerate(masks, first)
    ]
    return list(dict.fromkeys(found))
