"""The in-kernel prefilter: a classic BPF program, as data for iptables' `-m bpf --bytecode`.

It matches a TCP segment whose payload begins with `GET /.well-known/acme-challenge/`, or is shorter than that and as
long as it lasts the same, in whole words of four octets: the one to three octets a shorter payload may have beyond
its last whole word are left to the engine to compare. Bystanders' requests do not look like that, so their packets
never leave the kernel.

A binary header of the PROXY protocol ahead of that is skipped. How long a text header is cannot be told by a program
without loops, so a segment that begins with one matches.

xt_bpf gives the program the packet from its IP header on and takes at most 64 instructions
(include/uapi/linux/netfilter/xt_bpf.h). A load beyond the packet's end ends a program without a match.
"""

from __future__ import annotations

import struct

from certbot_standalone_nfq.capture.bpf.assembler import Code, Instruction, Line, assemble, payload_offset_from_tcp
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

MAX_INSTRUCTIONS = 64
_WORD = 4
_BINARY_FIXED = 16
_IPPROTO_TCP = 6
_MATCH, _NO_MATCH = 1, 0


def bytecode(family: int) -> str:
    """Return the program for IP version 4 or 6, in the notation of `-m bpf --bytecode`."""
    instructions = assemble([*_payload_offset(family), *_skip_proxy_header(), *_compare(REQUEST_PREFIX)])
    return ",".join([str(len(instructions)), *(f"{code} {jt} {jf} {k}" for code, jt, jf, k in instructions)])


def _payload_offset(family: int) -> list[Line]:
    """Leave where the payload begins in X."""
    if family == 4:
        return [Instruction(Code.LDX_MSH, 0), *payload_offset_from_tcp()]
    return [  # with extension headers in between, TCP does not begin at octet 40
        Instruction(Code.LDB_ABS, 6),
        Instruction(Code.JEQ, _IPPROTO_TCP, "", "other"),
        Instruction(Code.LDX_IMM, 40),
        *payload_offset_from_tcp(),
    ]


def _skip_proxy_header() -> list[Line]:
    """Move X behind a binary header of the PROXY protocol; leave the length of what is at X in A."""
    first, second, third = (word for (word,) in struct.iter_unpack("!I", BINARY_SIGNATURE))
    (text,) = struct.unpack("!I", TEXT_BEGINNING[:_WORD])
    return [
        Instruction(Code.LD_LEN),
        Instruction(Code.SUB_X),
        Instruction(Code.JGE, _BINARY_FIXED, "", "measured"),
        Instruction(Code.LD_IND, 0),
        Instruction(Code.JEQ, text, "match"),
        Instruction(Code.JEQ, first, "", "no header"),
        Instruction(Code.LD_IND, _WORD),
        Instruction(Code.JEQ, second, "", "other"),
        Instruction(Code.LD_IND, 2 * _WORD),
        Instruction(Code.JEQ, third, "", "other"),
        Instruction(Code.LDH_IND, _BINARY_FIXED - 2),  # the length of the rest of the header
        Instruction(Code.ADD, _BINARY_FIXED),
        Instruction(Code.ADD_X),
        Instruction(Code.TAX),
        "no header",
        Instruction(Code.LD_LEN),
        Instruction(Code.SUB_X),  # below zero, so very long, if the header ends later: then no load succeeds
        "measured",
    ]


def _compare(prefix: bytes) -> list[Line]:
    """Compare the payload at X from its last whole word down to its first; a shorter one octet by octet.

    Where to begin follows from the length, and from there each comparison falls through to the one before it.
    """
    words = [number for (number,) in struct.iter_unpack("!I", prefix)]
    return [
        *(Instruction(Code.JGE, count * _WORD, f"words {count}") for count in range(len(words), 0, -1)),
        *(Instruction(Code.JEQ, count, f"octets {count}") for count in range(_WORD - 1, 0, -1)),
        Instruction(Code.RET, _NO_MATCH),
        *_descending("octets", Code.LDB_IND, 1, list(prefix[: _WORD - 1])),
        *_descending("words", Code.LD_IND, _WORD, words),
        "match",
        Instruction(Code.RET, _MATCH),
        "other",
        Instruction(Code.RET, _NO_MATCH),
    ]


def _descending(label: str, load: Code, size: int, expected: list[int]) -> list[Line]:
    """Compare the last of the expected values first; the label with a count is where so many are compared."""
    lines: list[Line] = []
    for index in range(len(expected) - 1, -1, -1):
        lines += [
            f"{label} {index + 1}",
            Instruction(load, index * size),
            Instruction(Code.JEQ, expected[index], "", "other"),
        ]
    return [*lines, Instruction(Code.RET, _MATCH)]
