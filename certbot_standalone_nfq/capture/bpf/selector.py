"""A selector as a classic BPF program, for the kernel to run on each packet of a port.

`bytecode` is for iptables' `-m bpf`, and meets all that the selector asks for. A payload that ends before the selector
does matches if its whole words of four bytes are as they must be, or up to three bytes where there is no whole word:
what it has beyond them is left to the engine to compare. A binary PROXY header is skipped. A text one has no length
that a program without loops could find, so a segment that begins with one matches, whatever follows.

What the selector searches for is not part of that program: iptables has a match for it.

`compare_whole` is for datagrams, which are never cut, and for the tap, to which beginnings that are cut say nothing:
only whole ones match, without a header.

xt_bpf and packet sockets of type SOCK_DGRAM give a program the packet from its IP header on. A load beyond the
packet's end ends a program without a match.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from certbot_standalone_nfq.capture.bpf.assembler import (
    Code,
    Instruction,
    Line,
    assemble,
    size,
)
from certbot_standalone_nfq.engine.protocols import Field, Selector, Transport
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

MAX_INSTRUCTIONS = 64
"""XT_BPF_MAX_NUM_INSTR, include/uapi/linux/netfilter/xt_bpf.h."""
_WORD = 4
_BINARY_FIXED = 16
UDP_HEADER = 8
"""Bytes of it: a datagram's payload begins behind."""
_MATCH, _NO_MATCH = 1, 0
_LOADS = {4: Code.LD_IND, 2: Code.LDH_IND, 1: Code.LDB_IND}

Alternative = tuple[Field, ...]


class CannotCompile(ValueError):
    """A selector that xt_bpf cannot run: a fault of the program, not of the user."""


@dataclass(frozen=True)
class _Piece:
    """What one load fetches of a payload, and what it must be under a mask."""

    offset: int
    size: int
    value: int
    mask: int

    @property
    def end(self) -> int:
        return self.offset + self.size

    def compare(self, otherwise: str) -> list[Line]:
        """Return the comparison with what is at X, which goes on at a label if they differ."""
        whole = (1 << 8 * self.size) - 1
        masked = [] if self.mask == whole else [Instruction(Code.AND, self.mask)]
        return [
            Instruction(_LOADS[self.size], self.offset),
            *masked,
            Instruction(Code.JEQ, self.value & self.mask, "", otherwise),
        ]

    def beginning(self, length: int) -> _Piece:
        """Return the last byte of the first ones."""
        shift = 8 * (self.size - length)
        return _Piece(self.offset + length - 1, 1, self.value >> shift & 0xFF, self.mask >> shift & 0xFF)


def bytecode(selector: Selector, family: int) -> str:
    """Return the program for IP version 4 or 6, in the notation of `-m bpf --bytecode`. Raises CannotCompile."""
    lines = _datagram(selector, family) if selector.transport is Transport.UDP else _segment(selector, family)
    if size(lines) > MAX_INSTRUCTIONS:
        raise CannotCompile(f"the selector takes {size(lines)} instructions; xt_bpf runs {MAX_INSTRUCTIONS} at most")
    instructions = assemble(lines)
    return ",".join([str(len(instructions)), *(f"{code} {jt} {jf} {k}" for code, jt, jf, k in instructions)])


def _datagram(selector: Selector, family: int) -> list[Line]:
    lines = [*_transport_offset(family, Transport.UDP), *compare_datagram(selector.any_of, _MATCH)]
    return [*lines, "other", Instruction(Code.RET, _NO_MATCH)]


def _segment(selector: Selector, family: int) -> list[Line]:
    lines = [
        *_transport_offset(family, Transport.TCP),
        *_payload_offset(),
        *_payload_length(selector),
    ]
    for number, alternative in enumerate(selector.any_of):
        last = number == len(selector.any_of) - 1
        if number:
            lines += [f"alternative {number}", *_length_of_rest()]
        lines += _compare(alternative, f"{number}", "other" if last else f"alternative {number + 1}")
    return [*lines, "match", Instruction(Code.RET, _MATCH), "other", Instruction(Code.RET, _NO_MATCH)]


def compare_datagram(alternatives: Iterable[Alternative], accepted: int) -> list[Line]:
    """Return the same as `compare_whole`; X is to be where the UDP header begins."""
    behind = (
        tuple(Field(UDP_HEADER + field.offset, field.value, field.mask) for field in alternative)
        for alternative in alternatives
    )
    return compare_whole(behind, accepted)


def compare_whole(
    alternatives: Iterable[Alternative], accepted: int, further: Iterable[Alternative] = ()
) -> list[Line]:
    """Return the end of a program that accepts a packet if an alternative agrees with the whole of its payload's start.

    X is to be where the payload begins. `accepted` is what the program returns then. If one of `further` agrees, it
    goes on at the label "further", and otherwise at "other". A load beyond the end ends the program, so those that need
    the fewest bytes come first. Of each, what comes last is compared first: others' requests begin alike.
    """
    found = [(pieces_of(each), Instruction(Code.RET, accepted)) for each in alternatives]
    found += [(pieces_of(each), Instruction(Code.JA, if_true="further")) for each in further]
    found.sort(key=lambda each: each[0][-1].end if each[0] else 0)
    lines: list[Line] = []
    for number, (pieces, then) in enumerate(found):
        otherwise = f"whole {number + 1}" if number < len(found) - 1 else "other"
        lines += [line for piece in reversed(pieces) for line in piece.compare(otherwise)]
        lines.append(then)
        lines += [] if otherwise == "other" else [otherwise]
    return lines


def _transport_offset(family: int, transport: Transport) -> list[Line]:
    """Leave where the TCP or UDP header begins in X."""
    if family == 4:
        return [Instruction(Code.LDX_MSH, 0)]
    return [  # with extension headers in between, it does not begin at byte 40
        Instruction(Code.LDB_ABS, 6),
        Instruction(Code.JEQ, transport, "", "other"),
        Instruction(Code.LDX_IMM, 40),
    ]


def _payload_offset() -> list[Line]:
    """Return what moves X from where the TCP header begins to where it ends."""
    return [
        Instruction(Code.LDB_IND, 12),  # its length, in words, is in the upper half of this byte
        Instruction(Code.AND, 0xF0),
        Instruction(Code.RSH, 2),
        Instruction(Code.ADD_X),
        Instruction(Code.TAX),
    ]


def _length_of_rest() -> list[Line]:
    """Leave the length of what begins at X in A. It is very long, as below zero, if X is beyond the end."""
    return [Instruction(Code.LD_LEN), Instruction(Code.SUB_X)]


def _payload_length(selector: Selector) -> list[Line]:
    """Move X behind a binary PROXY header, if there can be one; leave the length of what is at X in A."""
    if not selector.after_proxy_header:
        return _length_of_rest()
    first, second, third = (word for (word,) in struct.iter_unpack("!I", BINARY_SIGNATURE))
    (text,) = struct.unpack("!I", TEXT_BEGINNING[:_WORD])
    if any(_agrees(alternative, BINARY_SIGNATURE[:_WORD]) for alternative in selector.any_of):
        raise CannotCompile("the selector must differ from a binary PROXY header within the first four bytes")
    return [
        *_length_of_rest(),
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
        *_length_of_rest(),
        "measured",
    ]


def _agrees(alternative: Alternative, payload: bytes) -> bool:
    return all(field.agrees_with(payload) for field in alternative)


def _compare(alternative: Alternative, name: str, otherwise: str) -> list[Line]:
    """Compare the payload at X, whose length is in A, from the last piece that it has down to the first.

    Where to begin follows from the length, and from there each comparison falls through to the one before it. A
    payload that has not even the first piece is compared byte by byte, if that piece is where the payload begins.
    """
    pieces = pieces_of(alternative)
    ends = sorted({piece.end for piece in pieces}, reverse=True)
    lines: list[Line] = [Instruction(Code.JGE, end, f"{name}: {end} bytes") for end in ends]
    if not pieces or pieces[0].offset:
        lines.append(Instruction(Code.JEQ, 0, "other", "match"))
    else:
        lines += _compare_less(pieces[0], name, otherwise)
    for piece in reversed(pieces):
        if piece.end in ends:
            lines.append(f"{name}: {piece.end} bytes")
            ends.remove(piece.end)
        lines += piece.compare(otherwise)
    return [*lines, Instruction(Code.RET, _MATCH)]


def _compare_less(piece: _Piece, name: str, otherwise: str) -> list[Line]:
    """Compare a payload that ends within the piece it begins with, from the last byte down; an empty one differs."""
    lengths = range(piece.size - 1, 0, -1)
    lines: list[Line] = [Instruction(Code.JEQ, length, f"{name}: {length} of a piece") for length in lengths]
    lines.append(Instruction(Code.RET, _NO_MATCH))
    for length in lengths:
        lines += [f"{name}: {length} of a piece", *piece.beginning(length).compare(otherwise)]
    return [*lines, Instruction(Code.RET, _MATCH)]


def pieces_of(alternative: Alternative) -> list[_Piece]:
    """Return what to load, in the order in which a payload that grows comes to have it."""
    found = [piece for field in alternative for piece in _cut(field) if piece.mask]
    return sorted(found, key=lambda piece: (piece.end, piece.offset))


def _cut(field: Field) -> Iterator[_Piece]:
    """Yield a field's pieces: words, and what is left at its end."""
    begin, mask = 0, field.mask or b"\xff" * len(field.value)
    for length in _LOADS:
        while len(field.value) - begin >= length:
            part = slice(begin, begin + length)
            yield _Piece(
                field.offset + begin,
                length,
                int.from_bytes(field.value[part], "big"),
                int.from_bytes(mask[part], "big"),
            )
            begin += length
