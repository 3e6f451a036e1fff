"""A TLS ClientHello's extensions, walked through by a classic BPF program: whether it asks for certain protocols.

Loads are what costs most, as a payload may not be in one piece of memory. To walk takes one for each extension; to look
for the protocols wherever they may be takes some forty.
"""

from __future__ import annotations

from collections.abc import Iterator

from certbot_standalone_nfq.capture.bpf.assembler import Code, Instruction, Line
from certbot_standalone_nfq.capture.bpf.selector import pieces_of
from certbot_standalone_nfq.engine.protocols import Field

BEFORE_SESSION = 5 + 4 + 2 + 32
"""Bytes of the record's header, the message's, the version and the random number: RFC 8446, 5.1 and 4.1.2."""
PROTOCOLS = 16
"""The extension's type: RFC 7301, 6."""
MOST_EXTENSIONS = 20
"""The ones to look at; CAs send about ten."""
_HEADER = 4
"""Bytes of an extension's type and length."""
_FIRST = BEFORE_SESSION + 1 + 2 + 1 + 2
"""Where extensions begin behind vectors that are empty, and the lengths of all of them."""


def asks_for(protocols: bytes, accepted: int) -> Iterator[Line]:
    """Yield the end of a program that returns `accepted` for a ClientHello that asks for protocols, and otherwise 0.

    X is to be where the record begins. `protocols` is the extension's length, of two bytes, and its content. What ends
    before it does is not accepted.
    """
    yield from _skip(Code.LDB_IND, BEFORE_SESSION)  # what identifies the session
    yield from _skip(Code.LDH_IND, BEFORE_SESSION + 1)  # the cipher suites
    yield from _skip(Code.LDB_IND, BEFORE_SESSION + 3)  # the compression methods
    header = PROTOCOLS << 16 | int.from_bytes(protocols[:2], "big")
    for _ in range(MOST_EXTENSIONS):
        yield Instruction(Code.LD_IND, _FIRST)
        yield Instruction(Code.JEQ, header, "protocols")
        yield Instruction(Code.AND, 0xFFFF)
        yield Instruction(Code.ADD, _HEADER)
        yield from _move()
    yield Instruction(Code.RET, 0)
    yield "protocols"
    for piece in pieces_of((Field(_FIRST + _HEADER, protocols[2:]),)):
        yield from piece.compare("others")
    yield Instruction(Code.RET, accepted)
    yield "others"
    yield Instruction(Code.RET, 0)


def _skip(load: Code, offset: int) -> Iterator[Line]:
    """Yield what moves X by the length at an offset."""
    yield Instruction(load, offset)
    yield from _move()


def _move() -> Iterator[Line]:
    yield Instruction(Code.ADD_X)
    yield Instruction(Code.TAX)
