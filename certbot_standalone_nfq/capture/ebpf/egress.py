"""The program at egress: it remembers the numbers of SYN-ACKs that leave from a port, and how they leave.

So the other program knows which connections exist, whoever their server is: a local socket, one behind DNAT, a SYN
proxy. A stranger who forges a request knows neither number. And so our answers leave by the server's own way.
"""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf import headers
from certbot_standalone_nfq.capture.ebpf.assembler import BYTE, R2, R6, R10, WORD
from certbot_standalone_nfq.capture.ebpf.code import NEXT, Code
from certbot_standalone_nfq.capture.ebpf.headers import ETHERNET, Side
from certbot_standalone_nfq.capture.ebpf.layout import HANDSHAKE, Frame, Packet
from certbot_standalone_nfq.capture.ebpf.maps import Maps

_SYN_ACK = 0x12


def write(port: int, maps: Maps, link_header: int, *, sorts_out: bool = True) -> Code:
    """Return the program for links with a header of Ethernet's length, or of any other (0).

    `sorts_out` makes it fast for other packets, where the kernel permits that.
    """
    code = Code()
    headers.begin(code, other_hosts=True)
    if link_header == ETHERNET and sorts_out:
        headers.sort_out(code, port, Side.SOURCE, all_flags=_SYN_ACK)
    headers.parse(code, link_header, port, Side.SOURCE)
    code.load(BYTE, R2, R10, Frame.TCP + 13)
    code.do(R2, "&=", _SYN_ACK)
    code.jump_if(R2, "!=", _SYN_ACK, "pass")
    code.clear(Frame.HANDSHAKE, HANDSHAKE.size)
    if link_header == ETHERNET:
        code.copy(0, Frame.HANDSHAKE + 12, ETHERNET)
    code.load(WORD, R2, R6, Packet.INTERFACE)
    code.store(WORD, R10, Frame.HANDSHAKE + 8, R2)
    code.load(WORD, R2, R10, Frame.TCP + 4)
    code.swap(R2, 32)
    code.do(R2, "+=", 1)
    code.swap(R2, 32)
    code.store(WORD, R10, Frame.HANDSHAKE + 4, R2)
    code.load(WORD, R2, R10, Frame.TCP + 8)
    code.store(WORD, R10, Frame.HANDSHAKE, R2)
    code.put(maps.handshakes, Frame.CONNECTION, Frame.HANDSHAKE)
    code.end("pass", NEXT)
    return code
