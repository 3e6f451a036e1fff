"""The in-kernel prefilter: a classic BPF program, as data for iptables' `-m bpf --bytecode`.

It matches a TCP segment whose payload begins with `GET /.well-known/acme-challenge/`, or is shorter than that and as
long as it lasts the same, in whole words of four octets: the one to three octets a shorter payload may have beyond
its last whole word are left to the engine to compare. Bystanders' requests do not look like that, so their packets
never leave the kernel.

xt_bpf gives the program the packet from its IP header on and takes at most 64 instructions
(include/uapi/linux/netfilter/xt_bpf.h). A load beyond the packet's end ends a program without a match.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Union

from certbot_standalone_nfq.core.http01 import REQUEST_PREFIX

MAX_INSTRUCTIONS = 64
_WORD = 4
_IPPROTO_TCP = 6

# Opcodes of include/uapi/linux/bpf_common.h and filter.h, by their names in Documentation/networking/filter.rst.
_LD_LEN = 0x80  # A = length of the packet
_LDB_ABS = 0x30  # A = octet at k
_LDB_IND = 0x50  # A = octet at X + k
_LD_IND = 0x40  # A = word at X + k
_LDX_IMM = 0x01  # X = k
_LDX_MSH = 0xB1  # X = 4 * (octet at k & 0xf), the length of an IPv4 header
_AND = 0x54
_RSH = 0x74
_ADD_X = 0x0C
_SUB_X = 0x1C
_TAX = 0x07
_JEQ = 0x15
_JGE = 0x35
_RET = 0x06

_MATCH, _NO_MATCH = 1, 0


@dataclass(frozen=True)
class _Instruction:
    """An instruction whose jump targets are labels; an empty label is the instruction that follows."""

    code: int
    k: int = 0
    if_true: str = ""
    if_false: str = ""


_Line = Union[_Instruction, str]
"""An instruction, or the label of the next one."""


def bytecode(family: int) -> str:
    """Return the program for IP version 4 or 6, in the notation of `-m bpf --bytecode`."""
    instructions = _assemble([*_payload_offset(family), *_compare(REQUEST_PREFIX)])
    return ",".join([str(len(instructions)), *(f"{code} {jt} {jf} {k}" for code, jt, jf, k in instructions)])


def _payload_offset(family: int) -> list[_Line]:
    """Leave where the payload begins in X."""
    if family == 4:
        network: list[_Line] = [_Instruction(_LDX_MSH, 0)]
    else:  # with extension headers in between, TCP does not begin at octet 40
        network = [_Instruction(_LDB_ABS, 6), _Instruction(_JEQ, _IPPROTO_TCP, "", "other"), _Instruction(_LDX_IMM, 40)]
    return [
        *network,
        _Instruction(_LDB_IND, 12),  # the TCP header's length, in words, is in the upper half of this octet
        _Instruction(_AND, 0xF0),
        _Instruction(_RSH, 2),
        _Instruction(_ADD_X),
        _Instruction(_TAX),
    ]


def _compare(prefix: bytes) -> list[_Line]:
    """Compare the payload at X from its last whole word down to its first; a shorter one octet by octet.

    Where to begin follows from the length, and from there each comparison falls through to the one before it.
    """
    words = [number for (number,) in struct.iter_unpack("!I", prefix)]
    return [
        _Instruction(_LD_LEN),
        _Instruction(_SUB_X),
        *(_Instruction(_JGE, count * _WORD, f"words {count}") for count in range(len(words), 0, -1)),
        *(_Instruction(_JEQ, count, f"octets {count}") for count in range(_WORD - 1, 0, -1)),
        _Instruction(_RET, _NO_MATCH),
        *_descending("octets", _LDB_IND, 1, list(prefix[: _WORD - 1])),
        *_descending("words", _LD_IND, _WORD, words),
        "other",
        _Instruction(_RET, _NO_MATCH),
    ]


def _descending(label: str, load: int, size: int, expected: list[int]) -> list[_Line]:
    """Compare the last of the expected values first; the label with a count is where so many are compared."""
    lines: list[_Line] = []
    for index in range(len(expected) - 1, -1, -1):
        lines += [
            f"{label} {index + 1}",
            _Instruction(load, index * size),
            _Instruction(_JEQ, expected[index], "", "other"),
        ]
    return [*lines, _Instruction(_RET, _MATCH)]


def _assemble(lines: list[_Line]) -> list[tuple[int, int, int, int]]:
    """Replace labels by distances: (code, jump if true, jump if false, k), as in struct sock_filter."""
    labels: dict[str, int] = {}
    instructions: list[_Instruction] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)

    def distance(label: str, here: int) -> int:
        return labels[label] - here - 1 if label else 0

    return [
        (line.code, distance(line.if_true, here), distance(line.if_false, here), line.k)
        for here, line in enumerate(instructions)
    ]
