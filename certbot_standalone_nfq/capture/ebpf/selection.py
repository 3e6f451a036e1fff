"""Selectors, compiled: how a payload begins, and whether the key that it names is pending.

A payload that is long enough is compared in words, a shorter one as long as it lasts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certbot_standalone_nfq.capture.ebpf import hosts, questions, server_names
from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    HALF,
    R0,
    R2,
    R3,
    R4,
    R5,
    R8,
    R9,
    R10,
    WORD,
    Size,
)
from certbot_standalone_nfq.capture.ebpf.code import Code
from certbot_standalone_nfq.capture.ebpf.layout import (
    PENDING_AT,
    REST_BYTES,
    START_BYTES,
    STREAM_BYTES,
    WATCHED_AT,
    Frame,
    Kind,
)
from certbot_standalone_nfq.capture.ebpf.maps import NAME_BYTES, Maps
from certbot_standalone_nfq.capture.ebpf.proxy_headers import TELLING_BYTES
from certbot_standalone_nfq.engine.protocols import Field, Key, Selector, Transport
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

_COUNT, _MASK = Frame.WATCHED, Frame.WATCHED + 8
"""How many bytes are compared from where a key begins, and the address of a mask of as many."""
_EVERY_BIT = (1 << 64) - 1
_SIZES = ((DOUBLE, 8), (WORD, 4), (HALF, 2), (BYTE, 1))


class CannotCompile(ValueError):
    """A selector that the program has no room for: a fault of ours, not of the user."""


@dataclass(frozen=True)
class Alternative:
    """One way in which a payload may begin."""

    fields: tuple[Field, ...]
    key: Key | None
    after_proxy_header: bool
    transport: Transport
    by_question: bool
    """Whether the key is the name in a DNS question."""
    by_host: bool
    """Whether it is the name in an HTTP request's Host field."""
    protocols: bytes
    """Of a TLS ClientHello whose server name is the key: the length and content of its extension of protocols."""

    @property
    def length(self) -> int:
        """Bytes of a payload that decide."""
        ends = [field.offset + len(field.value) for field in self.fields]
        return max([1, *ends, self.key.offset + self.key.length if self.key else 0])

    @property
    def question_at(self) -> int:
        """Where in the payload a DNS question begins: behind the header, over TCP with a length in front."""
        return 12 if self.transport is Transport.UDP else 14

    @property
    def comes_in_pieces(self) -> bool:
        """Whether a payload that ends before is watched for what follows it."""
        whole = self.protocols or self.by_question or self.by_host
        return not whole and self.transport is Transport.TCP

    def may_begin_like(self, header: bytes) -> bool:
        """Whether a header that is skipped cannot be told from what is selected by its first four bytes."""
        return self.after_proxy_header and all(field.agrees_with(header[:TELLING_BYTES]) for field in self.fields)


def alternatives_of(selectors: Sequence[Selector]) -> list[Alternative]:
    """Return all ways in which a payload may begin. Raises CannotCompile."""
    found = [
        Alternative(
            fields,
            selector.key,
            selector.after_proxy_header,
            selector.transport,
            selector.by_question,
            selector.by_host,
            selector.contains,
        )
        for selector in selectors
        for fields in selector.any_of
    ]
    if all(selector.transport is Transport.UDP for selector in selectors):
        raise CannotCompile("all selectors are for datagrams")
    if any(selector.contains and not selector.by_server_name for selector in selectors):
        raise CannotCompile("a selector has something searched for")
    if any(each.length > START_BYTES for each in found):
        raise CannotCompile(f"a selector is longer than {START_BYTES} bytes")
    if any(each.may_begin_like(header) for each in found for header in (TEXT_BEGINNING, BINARY_SIGNATURE)):
        raise CannotCompile("a selector must differ from a PROXY header within the first four bytes")
    if any(each.key and each.key.offset + REST_BYTES > STREAM_BYTES for each in found):
        raise CannotCompile(f"a key begins behind byte {STREAM_BYTES - REST_BYTES}")
    if any(each.key and each.key.length > NAME_BYTES for each in found):
        raise CannotCompile(f"a key is longer than {NAME_BYTES} bytes")
    return found


def compare(code: Code, alternatives: Sequence[Alternative], maps: Maps, name: str) -> None:
    """Compare the start of r8 bytes in the frame; r9 is where the payload begins, if it is not in pieces.

    Goes on at "found" if it is whole and what it names is pending, at "begun" if it may become so, else at "pass".
    """
    for number, each in enumerate(alternatives):
        here = f"{name} {number}"
        if not each.comes_in_pieces:
            code.jump_if(R8, "<", each.length, f"{here} other")
            _compare_words(code, each, f"{here} other")
            _find_name(code, each, maps, here)
            code.label(f"{here} other")
            continue
        code.jump_if(R8, "<", each.length, f"{here} short")
        _compare_words(code, each, f"{here} other")
        _look_up(code, each, maps, here)
        code.label(f"{here} short")
        _compare_as_long_as_it_lasts(code, each, maps, f"{here} other")
        code.jump("begun")
        code.label(f"{here} other")
    code.jump("pass")


def _find_name(code: Code, alternative: Alternative, maps: Maps, here: str) -> None:
    """Go on at "found" if the payload is whole, and names something pending; else at "pass"."""
    if alternative.protocols:
        server_names.find(code, alternative.protocols, maps, here)
    elif alternative.by_question:
        questions.find(code, alternative.question_at, maps, here)
    elif alternative.by_host:
        code.jump(hosts.FIND)
    else:
        code.jump("found")


def copy_start(code: Code, length: int, name: str, kind: Kind) -> None:
    """Copy the beginning of a payload, r8 bytes at r9, into the frame; so many bytes of it, or all if it is shorter."""
    code.store_double(Frame.KIND, kind)
    code.store_double(Frame.EARLIER, 0)
    code.jump_if(R8, "<", length, f"{name} short")
    # Without CAP_PERFMON, verifiers before 6.16 also follow branches that cannot be taken, where more is read.
    code.clear(Frame.START + (length & ~7), START_BYTES - (length & ~7))
    code.copy(R9, Frame.START, length)
    code.jump(f"{name} copied")
    code.label(f"{name} short")
    code.clear(Frame.START, START_BYTES)
    code.set(R4, R8)
    code.jump_if(R4, "<", 1, "pass")
    code.jump_if(R4, ">=", length, "pass")
    code.copy(R9, Frame.START, R4)
    code.label(f"{name} copied")


def _compare_words(code: Code, alternative: Alternative, otherwise: str) -> None:
    for field in alternative.fields:
        for offset, size, bytes_, value, mask in _words(field):
            whole = (1 << 8 * bytes_) - 1
            bits = 64 if bytes_ == 8 else 32
            if not mask:
                continue
            code.load(size, R2, R10, Frame.START + offset)
            if mask != whole:
                code.set_wide(R3, mask)
                code.do(R2, "&=", R3)
            code.set_wide(R3, value & mask)
            code.jump_if(R2, "!=", R3, otherwise, bits)


def _words(field: Field) -> Iterator[tuple[int, Size, int, int, int]]:
    """Yield a field's pieces, aligned as the frame is: offset, size, bytes, value, mask."""
    begin, mask = 0, field.mask or b"\xff" * len(field.value)
    while begin < len(field.value):
        offset = field.offset + begin
        size, bytes_ = next(
            (size, bytes_) for size, bytes_ in _SIZES if not offset % bytes_ and len(field.value) - begin >= bytes_
        )
        part = slice(begin, begin + bytes_)
        value, wanted = (int.from_bytes(each[part], sys.byteorder) for each in (field.value, mask))
        yield offset, size, bytes_, value, wanted
        begin += bytes_


def _compare_as_long_as_it_lasts(code: Code, alternative: Alternative, maps: Maps, otherwise: str) -> None:
    """Compare words under a mask of as many bytes as there are: r8, fewer than START_BYTES."""
    code.store_first(Frame.NAME, R8, 4)
    code.look_up(maps.masks, Frame.NAME)
    code.jump_if(R0, "==", 0, "pass")
    for field in alternative.fields:
        for offset, value, mask in _doubles(field):
            code.load(DOUBLE, R2, R10, Frame.START + offset)
            code.set_wide(R3, value)
            code.do(R2, "^=", R3)
            code.load(DOUBLE, R3, R0, offset)
            code.do(R2, "&=", R3)
            if mask != _EVERY_BIT:
                code.set_wide(R3, mask)
                code.do(R2, "&=", R3)
            code.jump_if(R2, "!=", 0, otherwise)


def _doubles(field: Field) -> Iterator[tuple[int, int, int]]:
    """Yield a field's parts in aligned words of eight bytes: offset, value, mask."""
    mask = field.mask or b"\xff" * len(field.value)
    front = field.offset % 8
    values, masks = (bytes(front) + each + bytes(-(front + len(each)) % 8) for each in (field.value, mask))
    for begin in range(0, len(values), 8):
        part = slice(begin, begin + 8)
        value, wanted = (int.from_bytes(each[part], sys.byteorder) for each in (values, masks))
        yield field.offset - front + begin, value, wanted


def _look_up(code: Code, alternative: Alternative, maps: Maps, here: str) -> None:
    """Go on at "found" if the key is pending, and what follows it in the packet is as it must be."""
    key = alternative.key
    if key is None:
        code.jump("found")
        return
    code.clear(Frame.NAME, NAME_BYTES)
    for offset in range(0, key.length, 8):
        _copy_within(code, Frame.START + key.offset + offset, Frame.NAME + offset, min(8, key.length - offset))
    code.look_up(maps.pending, Frame.NAME)
    code.jump_if(R0, "==", 0, f"{here} other")
    _copy_rest(code, key, maps, here)
    code.look_up(maps.masks, _COUNT)
    code.jump_if(R0, "==", 0, "pass")
    code.store_double(_MASK, R0)
    code.look_up(maps.pending, Frame.NAME)
    code.jump_if(R0, "==", 0, f"{here} other")
    code.load(DOUBLE, R5, R10, _MASK)
    for offset in range(0, REST_BYTES, 8):
        code.load(DOUBLE, R2, R10, Frame.REST + offset)
        code.load(DOUBLE, R3, R0, PENDING_AT + offset)
        code.do(R2, "^=", R3)
        for base, place in ((R0, PENDING_AT + REST_BYTES + offset), (R5, offset)):
            code.load(DOUBLE, R3, base, place)
            code.do(R2, "&=", R3)
        code.jump_if(R2, "!=", 0, f"{here} other")
    code.jump("found")


def _copy_rest(code: Code, key: Key, maps: Maps, here: str) -> None:
    """Copy what begins with the key, from the packet or from the pieces, and store how many bytes that is."""
    code.clear(Frame.REST, REST_BYTES)
    code.set(R4, R8)
    code.do(R4, "-=", key.offset)
    code.jump_if(R4, "<=", REST_BYTES, f"{here} fits")
    code.set(R4, REST_BYTES)
    code.label(f"{here} fits")
    code.jump_if(R4, "<", 1, "pass")
    code.store_first(_COUNT, R4, 4)
    code.load(DOUBLE, R2, R10, Frame.KIND)
    code.jump_if(R2, "==", Kind.TAKEN_IN_PIECES, f"{here} pieces")
    code.set(R2, R9)
    code.do(R2, "+=", key.offset)
    code.point(R3, Frame.REST)
    code.copy_to_r3()
    code.jump(f"{here} rest")
    code.label(f"{here} pieces")
    code.look_up(maps.watched, Frame.CONNECTION)
    code.jump_if(R0, "==", 0, "pass")
    for offset in range(0, REST_BYTES, 8):
        code.load(DOUBLE, R2, R0, WATCHED_AT + key.offset + offset)
        code.store_double(Frame.REST + offset, R2)
    code.label(f"{here} rest")


def _copy_within(code: Code, source: int, target: int, length: int) -> None:
    """Copy at most eight bytes within the frame, as both places are aligned; the first ones last."""
    parts = []
    done = 0
    while done < length:
        size, bytes_ = next(
            (size, bytes_)
            for size, bytes_ in _SIZES
            if not (source + done) % bytes_ and not (target + done) % bytes_ and length - done >= bytes_
        )
        parts.append((size, done))
        done += bytes_
    for size, begin in reversed(parts):
        code.load(size, R2, R10, source + begin)
        code.store(size, R10, target + begin, R2)
