"""eBPF programs as instructions with labels, their assembly, and a listing to read.

Opcodes are those of Documentation/bpf/standardization/instruction-set.rst. Numbers within instructions are in the
machine's byte order; so is what a program loads. The verifier checks everything else.
"""

from __future__ import annotations

import enum
import struct
import sys
from dataclasses import dataclass, replace
from typing import Union


class Register(enum.IntEnum):
    """r0: what a call returns; r1 to r5: what it is given, and what it destroys; r6 to r9 are kept; r10: the frame."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Register


class Size(enum.IntEnum):
    """How many bytes a load or a store moves."""

    WORD = 0x00
    HALF = 0x08
    BYTE = 0x10
    DOUBLE = 0x18


BYTE, HALF, WORD, DOUBLE = Size.BYTE, Size.HALF, Size.WORD, Size.DOUBLE
Operand = Union[Register, int]
"""A register, or a number of 32 bits with its sign."""

_OPERATIONS = {
    "+=": 0x00,
    "-=": 0x10,
    "*=": 0x20,
    "|=": 0x40,
    "&=": 0x50,
    "<<=": 0x60,
    ">>=": 0x70,
    "^=": 0xA0,
    "=": 0xB0,
}
_OPERATIONS["s>>="] = 0xC0
_CONDITIONS = {"==": 0x10, ">": 0x20, ">=": 0x30, "&": 0x40, "!=": 0x50, "s>": 0x60, "s>=": 0x70}
_CONDITIONS.update({"<": 0xA0, "<=": 0xB0, "s<": 0xC0, "s<=": 0xD0})
_ALU64, _ALU32, _JMP64, _JMP32 = 0x07, 0x04, 0x05, 0x06
_FROM_REGISTER = 0x08
_LDX, _ST, _STX, _ATOMIC_ADD = 0x61, 0x62, 0x63, 0xC3
_LD_IMM64, _CALL, _EXIT, _GOTO, _TO_BIG_ENDIAN = 0x18, 0x85, 0x95, 0x05, 0xDC
_MAP_FD, _MAP_VALUE = 1, 2  # BPF_PSEUDO_MAP_FD and BPF_PSEUDO_MAP_VALUE


@dataclass(frozen=True)
class Instruction:
    """One instruction of struct bpf_insn; a jump's offset is its label's until assembly."""

    code: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    number: int = 0
    target: str = ""
    text: str = ""

    def encode(self, byteorder: str) -> bytes:
        """Return its eight bytes: the registers are bit fields, whose order depends on the machine's."""
        first, second = self.destination, self.source
        registers = second << 4 | first if byteorder == "little" else first << 4 | second
        order = "<" if byteorder == "little" else ">"
        return struct.pack(f"{order}BBhI", self.code, registers, self.offset, self.number & 0xFFFFFFFF)


class Assembler:
    """Collects a program's instructions. Each method appends one or, for 64-bit numbers, two."""

    def __init__(self, byteorder: str = sys.byteorder) -> None:
        self.byteorder = byteorder
        self._instructions: list[Instruction] = []
        self._labels: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._instructions)

    def label(self, name: str) -> None:
        """Name the place of the next instruction. Raises ValueError if the name is taken."""
        if name in self._labels:
            raise ValueError(f"the label {name!r} is there twice")
        self._labels[name] = len(self._instructions)

    def do(self, register: Register, operation: str, operand: Operand, bits: int = 64) -> None:
        """Compute, as in C: `do(R2, "+=", 4)`. With 32 bits, the upper half becomes zero."""
        code = _OPERATIONS[operation] | (_ALU64 if bits == 64 else _ALU32)
        self._compute(code, register, operand, text=f"{_name(register, bits)} {operation} {_name(operand, bits)}")

    def set(self, register: Register, operand: Operand) -> None:
        """Copy a register, or set a small number."""
        self.do(register, "=", operand)

    def set_wide(self, register: Register, value: int) -> None:
        """Set a number of 64 bits."""
        self._wide(register, 0, value & 0xFFFFFFFF, value >> 32, f"{_name(register)} = {value:#x}")

    def set_map(self, register: Register, descriptor: int) -> None:
        """Set a map, for a call."""
        self._wide(register, _MAP_FD, descriptor, 0, f"{_name(register)} = map {descriptor}")

    def set_value(self, register: Register, descriptor: int, offset: int = 0) -> None:
        """Set the address of a byte in the only value of an array."""
        text = f"{_name(register)} = value of map {descriptor} + {offset}"
        self._wide(register, _MAP_VALUE, descriptor, offset, text)

    def swap(self, register: Register, bits: int) -> None:
        """Turn a number in network byte order into one in the machine's, or back; other bits become zero."""
        self._append(Instruction(_TO_BIG_ENDIAN, register, number=bits, text=f"{_name(register)} = be{bits}"))

    def load(self, size: Size, register: Register, base: Register, offset: int) -> None:
        """Load from memory."""
        text = f"{_name(register)} = {_place(size, base, offset)}"
        self._append(Instruction(_LDX | size, register, base, offset, text=text))

    def store(self, size: Size, base: Register, offset: int, operand: Operand) -> None:
        """Store a register or a number to memory."""
        text = f"{_place(size, base, offset)} = {_name(operand)}"
        if isinstance(operand, Register):
            self._append(Instruction(_STX | size, base, operand, offset, text=text))
        else:
            self._append(Instruction(_ST | size, base, 0, offset, operand, text=text))

    def add_to(self, base: Register, offset: int, register: Register) -> None:
        """Add 64 bits to memory, as one step to other processors."""
        text = f"lock {_place(DOUBLE, base, offset)} += {_name(register)}"
        self._append(Instruction(_ATOMIC_ADD | DOUBLE, base, register, offset, text=text))

    def jump_if(self, register: Register, condition: str, operand: Operand, target: str, bits: int = 64) -> None:
        """Go on at a label if a comparison holds; those with an s before them compare with signs."""
        code = _CONDITIONS[condition] | (_JMP64 if bits == 64 else _JMP32)
        text = f"if {_name(register, bits)} {condition} {_name(operand, bits)} goto {target}"
        self._compute(code, register, operand, target, text)

    def jump(self, target: str) -> None:
        """Go on at a label."""
        self._append(Instruction(_GOTO, target=target, text=f"goto {target}"))

    def call(self, helper: enum.IntEnum) -> None:
        """Call one of the kernel's helpers."""
        self._append(Instruction(_CALL, number=helper, text=f"call {helper.name.lower()}"))

    def exit(self) -> None:
        """Return r0."""
        self._append(Instruction(_EXIT, text="exit"))

    def assemble(self) -> bytes:
        """Return the program. Raises KeyError for a label that is missing, struct.error for a jump too long."""
        resolved = (
            replace(each, offset=self._labels[each.target] - here - 1) if each.target else each
            for here, each in enumerate(self._instructions)
        )
        return b"".join(each.encode(self.byteorder) for each in resolved)

    def listing(self) -> str:
        """Return the program as text: an instruction a line with its number, which the verifier's log uses too."""
        names: dict[int, list[str]] = {}
        for name, place in self._labels.items():
            names.setdefault(place, []).append(name)
        lines = []
        for here, each in enumerate(self._instructions):
            lines += [f"{name}:" for name in names.get(here, ())]
            lines += [f"{here:6}  {each.text}"] if each.text else []
        return "\n".join(lines)

    def _compute(self, code: int, register: Register, operand: Operand, target: str = "", text: str = "") -> None:
        if isinstance(operand, Register):
            self._append(Instruction(code | _FROM_REGISTER, register, operand, target=target, text=text))
        else:
            self._append(Instruction(code, register, number=operand, target=target, text=text))

    def _wide(self, register: Register, source: int, low: int, high: int, text: str) -> None:
        self._append(Instruction(_LD_IMM64, register, source, number=low, text=text))
        self._append(Instruction(0, number=high))

    def _append(self, instruction: Instruction) -> None:
        self._instructions.append(instruction)


def _name(operand: Operand, bits: int = 64) -> str:
    if isinstance(operand, Register):
        return f"{'r' if bits == 64 else 'w'}{operand.value}"
    return str(operand) if abs(operand) < 256 else hex(operand)


def _place(size: Size, base: Register, offset: int) -> str:
    return f"{size.name.lower()} [{_name(base)} {'-' if offset < 0 else '+'} {abs(offset)}]"
