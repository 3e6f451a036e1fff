"""The program at ingress: it hands over requests whose challenge is pending, and what follows on their connections.

Every other packet passes, and so does every packet that something fails for. Of a request, what goes on to the server
is a reset, so that the server's end of the connection is closed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from certbot_standalone_nfq.capture.ebpf import (
    bystanders,
    datagrams,
    existence,
    headers,
    hosts,
    proxy_headers,
    selection,
    takeover,
)
from certbot_standalone_nfq.capture.ebpf.assembler import (
    BYTE,
    DOUBLE,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R7,
    R8,
    R9,
    R10,
    WORD,
)
from certbot_standalone_nfq.capture.ebpf.code import DROP, NEXT, Code
from certbot_standalone_nfq.capture.ebpf.headers import ETHERNET, Side
from certbot_standalone_nfq.capture.ebpf.layout import (
    ANY_TAKEN,
    ANY_WATCHED,
    HANDSHAKE,
    START_BYTES,
    STREAM_BYTES,
    WATCHED,
    WATCHED_AT,
    Frame,
    Kind,
)
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.capture.ebpf.selection import Alternative
from certbot_standalone_nfq.capture.protocols import port_of
from certbot_standalone_nfq.engine.protocols import Selector, Transport
from certbot_standalone_nfq.wire.flags import Flags


def write(
    selectors: Sequence[Selector], maps: Maps, link_header: int, *, other_hosts: bool = False, sorts_out: bool = True
) -> Code:
    """Return the program for links with a header of Ethernet's length, or of any other (0).

    With `other_hosts`, it is for a port of a bridge, which sees packets for others. `sorts_out` makes it fast for
    other ports, where the kernel permits that. Raises selection.CannotCompile.
    """
    port = port_of(selectors)
    found = selection.alternatives_of(selectors)
    alternatives = [each for each in found if each.transport is Transport.TCP]
    in_datagrams = [each for each in found if each.transport is Transport.UDP]
    code = Code()
    headers.begin(code, other_hosts=other_hosts)
    if link_header == ETHERNET and sorts_out:
        let_pass = functools.partial(bystanders.let_pass, code, alternatives, maps)
        headers.sort_out(code, port, Side.DESTINATION, let_pass, datagrams=bool(in_datagrams))
    headers.parse(code, link_header, port, Side.DESTINATION, datagrams=bool(in_datagrams))
    _leave_to_taken(code, maps)
    _find_payload(code)
    comes_in_pieces = any(each.comes_in_pieces for each in alternatives)
    if comes_in_pieces:
        _go_on_with_pieces(code, maps)
    _compare_first(code, alternatives, maps)
    if any(each.by_host for each in alternatives):
        hosts.write(code, maps)
    if comes_in_pieces:
        code.label("begun")
        code.store_double(Frame.KIND, Kind.WATCHED)
    code.label("found")
    code.clear(Frame.HANDSHAKE, HANDSHAKE.size)
    if in_datagrams:
        code.load(DOUBLE, R2, R10, Frame.KIND)
        code.jump_if(R2, "==", Kind.DATAGRAM, "hand over")
    existence.check(code, maps)
    if comes_in_pieces:
        code.load(DOUBLE, R2, R10, Frame.KIND)
        code.jump_if(R2, "==", Kind.WATCHED, "watch")
    takeover.write(code, maps, link_header)
    if comes_in_pieces:
        _watch(code, maps)
    if in_datagrams:
        datagrams.write(code, in_datagrams, maps, port, link_header)
    code.end("pass", NEXT)
    code.end("drop", DROP)
    return code


def _leave_to_taken(code: Code, maps: Maps) -> None:
    code.set_value(R1, maps.control.descriptor)
    code.load(WORD, R2, R1, ANY_TAKEN)
    code.jump_if(R2, "==", 0, "not taken")
    code.look_up(maps.taken, Frame.CONNECTION)
    code.jump_if(R0, "!=", 0, "taken")
    code.label("not taken")


def _find_payload(code: Code) -> None:
    """Leave where the payload begins in r9, and its length in r8; note the sequence number that comes next."""
    code.load(BYTE, R2, R10, Frame.TCP + 13)
    code.do(R2, "&=", Flags.SYN | Flags.RST | Flags.ACK)
    code.jump_if(R2, "!=", Flags.ACK, "pass")
    code.load(BYTE, R9, R10, Frame.TCP + 12)
    code.do(R9, ">>=", 4)
    code.do(R9, "<<=", 2)
    code.jump_if(R9, "<", 20, "pass")
    code.do(R8, "-=", R9)
    code.jump_if(R8, "s<=", 0, "pass")
    code.do(R9, "+=", R7)
    code.load(WORD, R2, R10, Frame.TCP + 4)
    code.swap(R2, 32)
    code.do(R2, "+=", R8, bits=32)
    code.store_double(Frame.SCRATCH, R2)


def _go_on_with_pieces(code: Code, maps: Maps) -> None:
    """If the packet goes on a watched stream in order, put its beginning behind that, and go on at "pieces"."""
    code.set_value(R1, maps.control.descriptor)
    code.load(WORD, R2, R1, ANY_WATCHED)
    code.jump_if(R2, "==", 0, "first")
    code.look_up(maps.watched, Frame.CONNECTION)
    code.jump_if(R0, "==", 0, "first")
    code.load(WORD, R2, R0, 0)
    code.load(WORD, R3, R10, Frame.TCP + 4)
    code.swap(R3, 32)
    code.jump_if(R2, "!=", R3, "first")
    code.load(WORD, R5, R0, 4)
    code.do(R5, "&=", START_BYTES - 1)
    code.store_double(Frame.EARLIER, R5)
    code.set(R4, STREAM_BYTES)
    code.do(R4, "-=", R5)
    code.jump_if(R4, "<=", R8, "piece")
    code.set(R4, R8)
    code.label("piece")
    code.jump_if(R4, ">", STREAM_BYTES, "pass")
    code.jump_if(R4, "<", 1, "pass")
    code.set(R8, R5)
    code.do(R8, "+=", R4)
    code.set(R2, R9)
    code.set(R3, R0)
    code.do(R3, "+=", WATCHED_AT)
    code.do(R3, "+=", R5)
    code.set(R9, R0)
    code.copy_to_r3()
    for offset in range(0, START_BYTES, 8):
        code.load(DOUBLE, R2, R9, WATCHED_AT + offset)
        code.store_double(Frame.START + offset, R2)
    code.set(R9, 0)
    code.store_double(Frame.KIND, Kind.TAKEN_IN_PIECES)
    code.jump("pieces")


def _compare_first(code: Code, alternatives: Sequence[Alternative], maps: Maps) -> None:
    """Compare how the payload begins, or what follows a PROXY header there."""
    code.label("first")
    behind_header = [each for each in alternatives if each.after_proxy_header]
    selection.copy_start(
        code, max(proxy_headers.TELLING_BYTES, *(each.length for each in alternatives)), "start", Kind.TAKEN
    )
    if behind_header:
        proxy_headers.leave_if_there(code)
    code.label("pieces")
    selection.compare(code, alternatives, maps, "alternative")
    if behind_header:
        proxy_headers.skip(code, maps)
        selection.copy_start(code, max(each.length for each in behind_header), "rest", Kind.TAKEN)
        selection.compare(code, behind_header, maps, "behind header")


def _watch(code: Code, maps: Maps) -> None:
    """Remember how the stream begins, r8 bytes of it, and let the packet pass."""
    code.label("watch")
    code.store(WORD, R10, Frame.WATCHED + 4, R8)
    code.load(DOUBLE, R2, R10, Frame.SCRATCH)
    code.store(WORD, R10, Frame.WATCHED, R2)
    for offset in range(0, START_BYTES, 8):
        code.load(DOUBLE, R2, R10, Frame.START + offset)
        code.store_double(Frame.WATCHED + WATCHED_AT + offset, R2)
    code.clear(Frame.WATCHED + WATCHED_AT + START_BYTES, WATCHED.size - WATCHED_AT - START_BYTES)
    code.put(maps.watched, Frame.CONNECTION, Frame.WATCHED)
    code.set_value(R1, maps.control.descriptor)
    code.store(WORD, R1, ANY_WATCHED, 1)
    code.jump("pass")
