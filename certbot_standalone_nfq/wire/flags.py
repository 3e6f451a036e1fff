"""The flags of a TCP header. Loading this loads nothing that may be missing, as reading packets does."""

from __future__ import annotations

import enum


class Flags(enum.IntFlag):
    """The control bits of RFC 9293, 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80
