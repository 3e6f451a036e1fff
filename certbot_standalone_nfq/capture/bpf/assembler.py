"""Classic BPF programs, as data: instructions with labels to jump to, and their assembly.

Opcodes are those of include/uapi/linux/bpf_common.h and filter.h, by their names in
Documentation/networking/filter.rst. A load beyond the packet's end ends a program as if it returned 0.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Union


class Code(enum.IntEnum):
    """The opcodes we use. A and X are the two registers, k is the number in the instruction."""

    LD_LEN = 0x80  # A = length of the packet
    LD_ABS = 0x20  # A = word at k
    LDB_ABS = 0x30  # A = byte at k
    LDH_ABS = 0x28  # A = half word at k
    LD_IND = 0x40  # A = word at X + k
    LDH_IND = 0x48
    LDB_IND = 0x50
    LDX_IMM = 0x01  # X = k
    LDX_MSH = 0xB1  # X = 4 * (byte at k & 0xf), the length of an IPv4 header
    ADD = 0x04
    AND = 0x54
    RSH = 0x74
    ADD_X = 0x0C
    SUB_X = 0x1C
    TAX = 0x07
    JA = 0x05
    """Jump, however far: its distance is in k."""
    JEQ = 0x15
    JGE = 0x35
    JSET = 0x45
    RET = 0x06


@dataclass(frozen=True)
class Instruction:
    """An instruction whose jump targets are labels; an empty label is the instruction that follows."""

    code: Code
    k: int = 0
    if_true: str = ""
    if_false: str = ""


Line = Union[Instruction, str]
"""An instruction, or the label of the next one."""
_LONGEST_JUMP = 0xFF
"""Jumps are forward, their distances a byte each: struct sock_filter, include/uapi/linux/filter.h."""


class Assembled(NamedTuple):
    """An instruction as in struct sock_filter: jumps are distances."""

    code: int
    if_true: int
    if_false: int
    k: int


def size(lines: Sequence[Line]) -> int:
    """Return how many instructions lines assemble to."""
    return sum(isinstance(line, Instruction) for line in lines)


def assemble(lines: Sequence[Line]) -> list[Assembled]:
    """Replace labels by distances. Raises ValueError for a jump that is longer than the kernel's 255 instructions."""
    labels: dict[str, int] = {}
    instructions: list[Instruction] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)

    def distance(label: str, here: int, longest: int = _LONGEST_JUMP) -> int:
        found = labels[label] - here - 1 if label else 0
        if not 0 <= found <= longest:
            raise ValueError(f"instruction {here} cannot jump by {found} to {label!r}")
        return found

    def assembled(line: Instruction, here: int) -> Assembled:
        if line.code is Code.JA:
            return Assembled(int(line.code), 0, 0, distance(line.if_true, here, len(instructions)))
        return Assembled(int(line.code), distance(line.if_true, here), distance(line.if_false, here), line.k)

    return [assembled(line, here) for here, line in enumerate(instructions)]
