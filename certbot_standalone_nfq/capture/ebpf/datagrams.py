"""Datagrams at ingress: each is a whole question, so those that are ours are handed over, and the rest passes."""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq.capture.ebpf import selection
from certbot_standalone_nfq.capture.ebpf.assembler import HALF, R2, R7, R8, R9, R10
from certbot_standalone_nfq.capture.ebpf.code import Code, network_order
from certbot_standalone_nfq.capture.ebpf.headers import add_link_header
from certbot_standalone_nfq.capture.ebpf.layout import START_BYTES, Frame, Kind
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.capture.ebpf.selection import Alternative

_HEADER = 8


def write(code: Code, alternatives: Sequence[Alternative], maps: Maps, port: int, link_header: int) -> None:
    """Write what handles datagrams: r7 is where UDP begins behind the link's header. Goes on at "found", or "pass"."""
    code.label("UDP")
    add_link_header(code, R7, link_header)
    # Without CAP_PERFMON, verifiers also follow branches that cannot be taken, and so what is done for connections.
    for place, size in ((Frame.CONNECTION, 40), (Frame.TCP, 24), (Frame.SCRATCH, 16)):
        code.clear(place, size)
    code.copy(R7, Frame.TCP, _HEADER)
    code.load(HALF, R2, R10, Frame.TCP + 2)
    code.jump_if(R2, "!=", network_order(port, 2), "pass")
    code.load(HALF, R8, R10, Frame.TCP + 4)
    code.swap(R8, 16)
    code.do(R8, "-=", _HEADER)
    code.set(R9, R7)
    code.do(R9, "+=", _HEADER)
    shortest, longest = (chosen(each.length for each in alternatives) for chosen in (min, max))
    code.jump_if(R8, "s<", shortest, "pass")
    selection.copy_start(code, longest, "datagram", Kind.DATAGRAM)
    selection.compare(code, alternatives, maps, "question")
    assert longest <= START_BYTES
