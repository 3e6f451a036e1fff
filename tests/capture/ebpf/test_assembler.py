"""The assembler, held to what the kernel makes of its programs: it runs them, and what they return is compared."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.capture.ebpf import system
from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    HALF,
    R0,
    R1,
    R2,
    R10,
    WORD,
    Assembler,
    Instruction,
    Size,
)
from lab.ebpf import run

FRAME = bytes(64)
_TO_HOST = ctypes.c_int32
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+=": lambda a, b: a + b,
    "-=": lambda a, b: a - b,
    "*=": lambda a, b: a * b,
    "|=": lambda a, b: a | b,
    "&=": lambda a, b: a & b,
    "^=": lambda a, b: a ^ b,
    "=": lambda _, b: b,
}
SHIFTS: dict[str, Callable[[int, int], int]] = {
    "<<=": lambda a, b: a << b,
    ">>=": lambda a, b: (a & (1 << 64) - 1) >> b,
    "s>>=": lambda a, b: a >> b,
}
CONDITIONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: unsigned(a) > unsigned(b),
    ">=": lambda a, b: unsigned(a) >= unsigned(b),
    "<": lambda a, b: unsigned(a) < unsigned(b),
    "<=": lambda a, b: unsigned(a) <= unsigned(b),
    "&": lambda a, b: bool(a & b),
    "s>": lambda a, b: a > b,
    "s>=": lambda a, b: a >= b,
    "s<": lambda a, b: a < b,
    "s<=": lambda a, b: a <= b,
}
numbers = st.one_of(st.integers(-3, 3), st.integers(-(1 << 31), (1 << 31) - 1))


def unsigned(number: int) -> int:
    return number & (1 << 64) - 1


def result_of(code: Assembler) -> int:
    """Return what a program leaves in r0, as 32 bits with a sign."""
    code.exit()
    program = system.load_program(code.assemble(), "test")
    try:
        return run(program, FRAME).verdict
    finally:
        os.close(program)


def signed(number: int) -> int:
    return int(_TO_HOST(number & 0xFFFFFFFF).value)


@pytest.mark.root
@given(first=numbers, second=numbers, operation=st.sampled_from(list(OPERATIONS)), by_register=st.booleans())
def test_the_kernel_computes_what_is_written(first: int, second: int, operation: str, by_register: bool) -> None:
    code = Assembler()
    code.set(R0, first)
    code.set(R2, second)
    code.do(R0, operation, R2 if by_register else second)
    assert result_of(code) == signed(OPERATIONS[operation](first, second))


@pytest.mark.root
@given(first=numbers, places=st.integers(0, 31), operation=st.sampled_from(list(SHIFTS)), high=st.booleans())
def test_the_kernel_shifts_as_is_written(first: int, places: int, operation: str, high: bool) -> None:
    code = Assembler()
    code.set(R0, first)
    code.do(R0, operation, places)
    if high:
        code.do(R0, ">>=", 32)
    expected = SHIFTS[operation](first, places)
    assert result_of(code) == signed(unsigned(expected) >> (32 if high else 0))


@pytest.mark.root
@given(first=numbers, second=numbers, condition=st.sampled_from(list(CONDITIONS)), by_register=st.booleans())
def test_the_kernel_compares_as_is_written(first: int, second: int, condition: str, by_register: bool) -> None:
    code = Assembler()
    code.set(R1, first)
    code.set(R2, second)
    code.set(R0, 1)
    code.jump_if(R1, condition, R2 if by_register else second, "end")
    code.set(R0, 0)
    code.label("end")
    assert bool(result_of(code)) == CONDITIONS[condition](first, second)


@pytest.mark.root
@given(first=numbers, second=numbers)
def test_with_32_bits_only_the_lower_halves_count(first: int, second: int) -> None:
    code = Assembler()
    code.set_wide(R1, 7 << 32 | first & 0xFFFFFFFF)
    code.set(R2, second)
    code.do(R2, "^=", R1, bits=32)
    code.set(R0, R2)
    code.do(R0, ">>=", 32)
    code.jump_if(R0, "!=", 0, "end")
    code.set(R0, 1)
    code.jump_if(R1, "==", second, "end", bits=32)
    code.set(R0, 0)
    code.label("end")
    assert result_of(code) == int(first == second)


@pytest.mark.root
@pytest.mark.parametrize("by_register", [False, True])
@pytest.mark.parametrize(("size", "bytes_"), [(BYTE, 1), (HALF, 2), (WORD, 4), (DOUBLE, 8)])
def test_as_much_of_memory_is_stored_and_loaded_as_is_written(size: Size, bytes_: int, by_register: bool) -> None:
    code = Assembler()
    code.set(R2, 0x11223344)
    code.set(R0, -1)
    code.store(DOUBLE, R10, -8, R0)
    code.store(DOUBLE, R10, -16, R0)
    code.store(size, R10, -16, R2 if by_register else 0x11223344)
    code.load(size, R0, R10, -16)
    code.load(BYTE, R1, R10, -16 + bytes_)  # what follows is as it was
    code.do(R1, "-=", 0xFF)
    code.do(R0, "+=", R1)
    assert result_of(code) == 0x11223344 & (1 << 8 * bytes_) - 1


@pytest.mark.root
@pytest.mark.parametrize(("bits", "expected"), [(16, 0x1234), (32, 0x12345678)])
def test_numbers_in_network_order_are_swapped_where_that_is_not_the_machines(bits: int, expected: int) -> None:
    (stored,) = struct.unpack("=Q", expected.to_bytes(bits // 8, "big").ljust(8, b"\xff"))
    code = Assembler()
    code.set_wide(R0, stored)
    code.swap(R0, bits)
    assert result_of(code) == expected


def test_registers_and_numbers_are_laid_out_as_each_byte_order_has_it() -> None:
    instruction = Instruction(0x7B, 10, 1, -8, 0x01020304)
    assert instruction.encode("little") == bytes.fromhex("7b1a f8ff 04030201")
    assert instruction.encode("big") == bytes.fromhex("7ba1 fff8 01020304")


def test_a_listing_reads_like_the_program() -> None:
    code = Assembler()
    code.set(R0, -1)
    code.label("again")
    code.load(HALF, R2, R1, 16)
    code.jump_if(R2, "s<=", 300, "again", bits=32)
    code.set_wide(R1, 1 << 40)
    code.exit()
    assert code.listing().splitlines() == [
        "     0  r0 = -1",
        "again:",
        "     1  r2 = half [r1 + 16]",
        "     2  if w2 s<= 0x12c goto again",
        "     3  r1 = 0x10000000000",
        "     5  exit",
    ]


def test_labels_are_there_once_and_where_they_are_needed() -> None:
    code = Assembler()
    code.label("here")
    with pytest.raises(ValueError, match="'here' is there twice"):
        code.label("here")
    code.jump("nowhere")
    with pytest.raises(KeyError, match="nowhere"):
        code.assemble()
