"""Phrases that programs are written in: what several of them do in the same way."""

from __future__ import annotations

import sys

from certbot_standalone_nfq.capture.ebpf.assembler import (
    DOUBLE,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R8,
    R9,
    R10,
    Assembler,
    Operand,
    Register,
)
from certbot_standalone_nfq.capture.ebpf.layout import Helper
from certbot_standalone_nfq.capture.ebpf.system import Map

NEXT = -1
"""TCX_NEXT, and TC_ACT_UNSPEC: the packet goes on to the next program or filter."""
DROP = 2
"""TC_ACT_SHOT."""


class Code(Assembler):
    """A program at a traffic control hook, with the packet in r6."""

    def end(self, label: str, verdict: int) -> None:
        """Write an end of the program, for all who go on at its label."""
        self.label(label)
        self.set(R0, verdict)
        self.exit()

    def point(self, register: Register, place: int) -> None:
        """Set the address of a place in the frame."""
        self.set(register, R10)
        self.do(register, "+=", place)

    def copy(self, offset: Operand, place: int, size: Operand, otherwise: str = "pass") -> None:
        """Copy bytes of the packet into the frame; go on at a label if they are not there. Not from r1, r3 or r4."""
        self.set(R2, offset)
        self.point(R3, place)
        self.set(R4, size)
        self.copy_to_r3(otherwise)

    def copy_to_r3(self, otherwise: str = "pass") -> None:
        """Copy bytes of the packet to where r3 points; r2 and r4 are the offset and the number."""
        self.set(R1, R6)
        self.call(Helper.SKB_LOAD_BYTES)
        self.jump_if(R0, "!=", 0, otherwise)

    def copy_start(self, shortest: int, longest: int, here: str) -> None:
        """Copy the first bytes of a payload to where r0 points: `longest` at most; below `shortest`, go on at "pass".

        The payload is at r9, and r8 is how many bytes it has. Changes r0 to r4.
        """
        self.set(R4, R8)
        self.jump_if(R4, "<=", longest, f"{here} fits")
        self.set(R4, longest)
        self.label(f"{here} fits")
        self.jump_if(R4, "<", shortest, "pass")
        self.set(R2, R9)
        self.set(R3, R0)
        self.copy_to_r3()

    def look_up(self, map_: Map, place: int) -> None:
        """Set r0 to the address of a value, or 0, given where in the frame its key is."""
        self.set_map(R1, map_.descriptor)
        self.point(R2, place)
        self.call(Helper.MAP_LOOKUP_ELEM)

    def put(self, map_: Map, place: int, value: int) -> None:
        """Put a value in place, given where in the frame it and its key are; r0 is 0 if that worked."""
        self.set_map(R1, map_.descriptor)
        self.point(R2, place)
        self.point(R3, value)
        self.set(R4, 0)
        self.call(Helper.MAP_UPDATE_ELEM)

    def discard(self, map_: Map, place: int) -> None:
        """Remove a key, given where in the frame it is."""
        self.set_map(R1, map_.descriptor)
        self.point(R2, place)
        self.call(Helper.MAP_DELETE_ELEM)

    def clear(self, place: int, size: int) -> None:
        """Set bytes of the frame to zero, a multiple of eight."""
        for offset in range(0, size, 8):
            self.store_double(place + offset, 0)

    def store_double(self, place: int, operand: Operand) -> None:
        """Store 64 bits in the frame."""
        self.store(DOUBLE, R10, place, operand)

    def store_first(self, place: int, register: Register, size: int) -> None:
        """Store a number of so many bytes, and anything behind it. Changes r2.

        Without CAP_PERFMON, verifiers refuse to have a part of a stored number overwritten, unless all 64 bits are.
        For the same reason, the first part of an aligned 64 bits is stored last.
        """
        self.set(R2, register)
        if self.byteorder == "big":
            self.do(R2, "<<=", 64 - 8 * size)
        self.store_double(place, R2)


def network_order(value: int, size: int) -> int:
    """Return the number that a program loads where a packet has this one, as a comparison takes it."""
    return int.from_bytes(value.to_bytes(size, "big"), sys.byteorder, signed=size == 4)
