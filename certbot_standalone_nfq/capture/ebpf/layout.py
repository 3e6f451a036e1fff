"""Where programs keep what: the helpers, the packet's description, the frame, the maps and the records.

Numbers are those of include/uapi/linux/bpf.h. What a program stores of a packet keeps the packet's byte order, and is
moved in pieces of the size that the packet has: so maps hold the same bytes on every machine.
"""

from __future__ import annotations

import enum
import struct
from typing import Final


class Helper(enum.IntEnum):
    """The kernel's functions that programs call: enum bpf_func_id."""

    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    SKB_STORE_BYTES = 9
    L3_CSUM_REPLACE = 10
    L4_CSUM_REPLACE = 11
    TAIL_CALL = 12
    SKB_LOAD_BYTES = 26
    CSUM_DIFF = 28
    SKB_CHANGE_TAIL = 38
    CSUM_UPDATE = 40
    SKB_LOAD_BYTES_RELATIVE = 68
    SK_RELEASE = 86
    TCP_SOCK = 96
    SKC_LOOKUP_TCP = 99
    RINGBUF_RESERVE = 131
    RINGBUF_SUBMIT = 132
    RINGBUF_DISCARD = 133


class Packet(enum.IntEnum):
    """Offsets in struct __sk_buff, what a program is given in r1."""

    LENGTH = 0
    TYPE = 4
    MARK = 8
    PROTOCOL = 16
    VLAN_PRESENT = 20
    INTERFACE = 40
    DATA = 76
    DATA_END = 80


class Socket(enum.IntEnum):
    """Offsets in struct bpf_sock and, from RCV_NXT on, struct bpf_tcp_sock."""

    STATE = 72
    RCV_NXT = 16
    SND_NXT = 20
    SND_UNA = 24


class Frame(enum.IntEnum):
    """Offsets from r10, all divisible by eight."""

    CONNECTION = -40
    """What the maps of connections have as a key: see CONNECTION_BYTES."""
    TCP = -64
    """The TCP header, without options."""
    IP = -104
    """The IP header: IPv6's from here on, IPv4's from four bytes on, so that its addresses are aligned."""
    LINK = -112
    """Bytes of the link's header."""
    KIND = -120
    """Of the record to be written."""
    EARLIER = -128
    """Bytes of the request that came before this packet's."""
    SCRATCH = -144
    """Two numbers."""
    START = -208
    """How the payload begins, or the stream that it goes on."""
    NAME = -272
    """A key to look up among those pending."""
    REST = -336
    """What stands where the key begins, and behind it."""
    HANDSHAKE = -336
    """A connection's handshake, or zeros. What stands there before has been compared by then."""
    WATCHED = -504
    """A value for the map of watched connections."""


CONNECTION_BYTES: Final = 36
"""Both addresses, the peer's first: two of IPv4, filled up to 32 bytes with zeros, or of IPv6. Then both ports."""
START_BYTES: Final = 64
"""How much of a payload may decide."""
REST_BYTES: Final = 64
"""How much is compared from where a key begins."""

PENDING: Final = struct.Struct(f"=I4x{REST_BYTES}s{REST_BYTES}s")
"""A pending key's value: how long it must be, for server names; what must be found from where it begins, and a mask."""
PENDING_AT: Final = 8
"""Where in it that begins."""
STREAM_BYTES: Final = 96
"""How much of a stream in pieces is put together."""
_ROOM = 160
"""For that, behind all but one byte of the start."""
assert _ROOM >= START_BYTES - 1 + STREAM_BYTES
WATCHED: Final = struct.Struct(f"=II{_ROOM}s")
"""A watched connection: the sequence number that comes next, how many bytes there are, and these."""
WATCHED_AT: Final = 8
"""Where in it these begin."""
HANDSHAKE: Final = struct.Struct("=QII14s2x")
"""A handshake: what it is known by, then the sequence number of the connection's first request, in network byte order,
and how the SYN-ACK left: by which interface, and behind which Ethernet header; zeros on a link of another kind."""
HANDSHAKE_BITS: Final = 5
assert HANDSHAKE.size == 1 << HANDSHAKE_BITS
HANDSHAKES: Final = 8
"""How many there are in one place of the table."""
FIRST_HANDSHAKE_AT: Final = 8
"""Behind a number of 32 bits, which says how many have been put there."""
SEQUENCE_AT: Final = 8
"""Where in it the sequence number is; from there on, it is handed over."""
HANDED_OVER: Final = HANDSHAKE.size - SEQUENCE_AT
CONTROL: Final = struct.Struct("=IIQ")
"""Whether any connection is taken, whether any is watched, and how many packets were lost for want of room."""
ANY_TAKEN: Final = 0
ANY_WATCHED: Final = 4
LOST: Final = 8
"""Where in it these are."""

SCANNED_BYTES: Final = 112
"""Room for what is searched for the end of a PROXY header in text, and for the place where it is."""

HEAD_ROOM: Final = 720
"""Room for a request that is searched for its Host field, and for what is noted of it."""

RECORD: Final = struct.Struct("=6I4xI14s2x")
"""In front of a record's packet, which begins with its link header: the kind, the interface, bytes of the packet, of
the link's header and of the request that came before, the mark; then how the connection's SYN-ACK left, as the
end of HANDSHAKE says it."""
RECORD_HANDSHAKE_AT: Final = RECORD.size - HANDED_OVER
SMALL: Final = 512
LARGE: Final = 16384
"""Bytes of a packet that fit into a record of either size. Two sizes make the most of the ring."""


class Kind(enum.IntEnum):
    """What a record's packet is."""

    TAKEN = 1
    """A request, which has become a reset on its way to the server."""
    TAKEN_IN_PIECES = 2
    """Its last piece, likewise."""
    MORE = 3
    """A packet of a connection taken before, which has been dropped."""
    WATCHED = 4
    """None: the packet begins like a request, and passes."""
    DATAGRAM = 5
    """A question over UDP, which has been dropped."""
