"""The program at egress: it remembers the numbers of SYN-ACKs that leave from a port, and how they leave.

So the other program knows which connections exist, whoever their server is: a local socket, one behind DNAT, a SYN
proxy. A stranger who forges a request knows neither number. And so our answers leave by the server's own way.
"""

from __future__ import annotations

import functools

from certbot_standalone_nfq.capture.ebpf import handshakes, headers
from certbot_standalone_nfq.capture.ebpf.assembler import BYTE, R2, R3, R5, R10, WORD
from certbot_standalone_nfq.capture.ebpf.code import NEXT, Code
from certbot_standalone_nfq.capture.ebpf.headers import ETHERNET, Side
from certbot_standalone_nfq.capture.ebpf.layout import Frame
from certbot_standalone_nfq.capture.ebpf.maps import Maps
from certbot_standalone_nfq.wire.flags import Flags

_SYN_ACK = Flags.SYN | Flags.ACK


def write(port: int, maps: Maps, link_header: int, *, sorts_out: bool = True) -> Code:
    """Return the program for links with a header of Ethernet's length, or of any other (0).

    `sorts_out` makes it fast for other packets, where the kernel permits that.
    """
    code = Code()
    headers.begin(code, other_hosts=True)
    if link_header == ETHERNET and sorts_out:
        headers.sort_out(code, port, Side.SOURCE, functools.partial(_require_syn_ack, code))
    headers.parse(code, link_header, port, Side.SOURCE)
    code.load(BYTE, R2, R10, Frame.TCP + 13)
    code.do(R2, "&=", _SYN_ACK)
    code.jump_if(R2, "!=", _SYN_ACK, "pass")
    _answer(code)
    handshakes.remember(code, maps, link_header)
    code.end("pass", NEXT)
    return code


def _require_syn_ack(code: Code, tcp: int) -> None:
    code.load(BYTE, R5, R2, tcp + 13)
    code.do(R5, "&=", _SYN_ACK)
    code.jump_if(R5, "!=", _SYN_ACK, "pass")
    code.jump("parse")


def _answer(code: Code) -> None:
    """Give the TCP header in the frame the numbers that the client's first request will have."""
    code.load(WORD, R2, R10, Frame.TCP + 4)
    code.load(WORD, R3, R10, Frame.TCP + 8)
    code.store(WORD, R10, Frame.TCP + 4, R3)
    code.swap(R2, 32)
    code.do(R2, "+=", 1)
    code.swap(R2, 32)
    code.store(WORD, R10, Frame.TCP + 8, R2)
