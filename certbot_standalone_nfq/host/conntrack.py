"""One connection as the kernel tracks it: ctnetlink, include/uapi/linux/netfilter/nfnetlink_conntrack.h.

Netlink's own headers are in the machine's byte order, everything within the attributes in network order.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from certbot_standalone_nfq.host import tracking
from certbot_standalone_nfq.wire.addresses import packed, unpacked, version_of
from certbot_standalone_nfq.wire.tcp import Connection

SECONDS = 0.5
"""How long a look-up may take: its answer is waited for by one peer, and by everybody else whose packet is queued."""

_NETLINK_NETFILTER = 12
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP = 0x300
_SUBSYSTEM_CTNETLINK = 1 << 8
_NEW = _SUBSYSTEM_CTNETLINK | 0
_GET = _SUBSYSTEM_CTNETLINK | 1
_MAX_DATAGRAM = 1 << 16

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF  # without the nested and byte-order flags

_TUPLE_ORIG, _TUPLE_REPLY, _ADJUSTED_REPLY, _SYNPROXY, _FILTER = 1, 2, 16, 24, 25
_OFFSET_AFTER, _TIMESTAMP_OFFSET = 3, 3
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SOURCE = {4: 1, 6: 3}
_IP_DESTINATION = {4: 2, 6: 4}
_PROTO_NUM, _PROTO_SOURCE_PORT, _PROTO_DESTINATION_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
# Protocol and source port. The address must be given and is not compared, as for IPv6 Linux does that the wrong way
# round (ctnetlink_filter_match_tuple in net/netfilter/nf_conntrack_netlink.c); here it is.
_FILTER_SOURCE_PORT = 1 << 3 | 1 << 4
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True)
class Tracked:
    """What conntrack knows of one connection."""

    reply_address: str
    """Where the server's packets are sent, before conntrack translates them back."""
    reply_port: int
    sequence_offset: int = 0
    """What is added to the sequence numbers of the server's packets on their way out, as behind SYNPROXY."""
    timestamp_offset: int = 0
    """What is taken away from their timestamps: SYNPROXY does so (synproxy_tstamp_adjust)."""


class _Flow(NamedTuple):
    ends: Connection
    protocol: int


def find(connection: Connection, protocol: int = socket.IPPROTO_TCP) -> Tracked | None:
    """Return what is known of a connection, or of another protocol's flow between ports, or None if nothing is.

    Its ends are given as its packets are after DNAT and before SNAT.

    Raises OSError, TimeoutError included.
    """
    if not tracking.in_use():
        return None  # without going through an empty table, whose size is the same
    deadline = time.monotonic() + SECONDS
    # Each request has a socket of its own: an answer that was not waited for cannot be taken for the next one.
    flow = _Flow(connection, protocol)
    return next(_untranslated(flow, deadline), None) or next(_translated(flow, deadline), None)


def _untranslated(flow: _Flow, deadline: float) -> Iterator[Tracked]:
    """Yield the connection if its source is not translated: one look-up in a hash table, some microseconds."""
    attributes = _tuple(_TUPLE_REPLY, flow.protocol, flow.ends[2:], flow.ends[:2])
    with contextlib.suppress(FileNotFoundError):
        yield from _ask(_NLM_F_ACK, flow, attributes, deadline)


def _translated(flow: _Flow, deadline: float) -> Iterator[Tracked]:
    """Yield the connection by its two ends, whatever its source became.

    The kernel goes through its whole table: 20 to 100 milliseconds. Before Linux 5.8 it shows all of it.
    """
    flags = struct.pack("=I", _FILTER_SOURCE_PORT)
    attributes = (
        _tuple(_TUPLE_ORIG, flow.protocol, flow.ends[:2])
        + _tuple(_TUPLE_REPLY, flow.protocol, flow.ends[2:])
        + _attribute(_FILTER | _NESTED, _attribute(_FILTER_ORIG_FLAGS, flags) + _attribute(_FILTER_REPLY_FLAGS, flags))
    )
    yield from _ask(_NLM_F_DUMP, flow, attributes, deadline)


def _ask(flags: int, flow: _Flow, attributes: bytes, deadline: float) -> Iterator[Tracked]:
    """Send a request and yield the connections in its answer that have these two ends."""
    body = struct.pack("!BBH", _FAMILY[version_of(flow.ends.peer)], 0, 0) + attributes
    header = _HEADER.pack(_HEADER.size + len(body), _GET, _NLM_F_REQUEST | flags, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
        kernel.send(header + body)
        while True:
            kernel.settimeout(max(deadline - time.monotonic(), 0.001))
            for kind, message in _messages(kernel.recv(_MAX_DATAGRAM)):
                if kind == _NEW:
                    yield from _read(message, flow)
                elif kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    _raise_for(message)
                    return


def _read(message: bytes, flow: _Flow) -> Iterator[Tracked]:
    attributes = dict(_attributes(message[4:]))
    with contextlib.suppress(KeyError, ValueError, struct.error):
        original = _ends(attributes[_TUPLE_ORIG], flow.protocol)
        reply = _ends(attributes[_TUPLE_REPLY], flow.protocol)
        if original[0] == flow.ends[:2] and reply[0] == flow.ends[2:]:
            sequence = _number_in(attributes.get(_ADJUSTED_REPLY), _OFFSET_AFTER)
            yield Tracked(*reply[1], sequence, _number_in(attributes.get(_SYNPROXY), _TIMESTAMP_OFFSET))


def _number_in(nested: bytes | None, kind: int) -> int:
    return int.from_bytes(dict(_attributes(nested or b"")).get(kind, b""), "big")


def _ends(nested: bytes, protocol: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the source and the destination of a tuple. Raises KeyError or ValueError if it is of another protocol."""
    parts = dict(_attributes(nested))
    ip, transport = dict(_attributes(parts[_TUPLE_IP])), dict(_attributes(parts[_TUPLE_PROTO]))
    version = 4 if _IP_SOURCE[4] in ip else 6
    if transport[_PROTO_NUM] != bytes([protocol]):
        raise ValueError("another protocol")
    return (
        (unpacked(ip[_IP_SOURCE[version]]), int.from_bytes(transport[_PROTO_SOURCE_PORT], "big")),
        (unpacked(ip[_IP_DESTINATION[version]]), int.from_bytes(transport[_PROTO_DESTINATION_PORT], "big")),
    )


def _tuple(kind: int, protocol: int, source: tuple[str, int], destination: tuple[str, int] | None = None) -> bytes:
    version = version_of(source[0])
    ip = _attribute(_IP_SOURCE[version], packed(source[0]))
    transport = _attribute(_PROTO_NUM, bytes([protocol]))
    transport += _attribute(_PROTO_SOURCE_PORT, source[1].to_bytes(2, "big"))
    if destination:
        ip += _attribute(_IP_DESTINATION[version], packed(destination[0]))
        transport += _attribute(_PROTO_DESTINATION_PORT, destination[1].to_bytes(2, "big"))
    return _attribute(
        kind | _NESTED, _attribute(_TUPLE_IP | _NESTED, ip) + _attribute(_TUPLE_PROTO | _NESTED, transport)
    )


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    while len(datagram) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(datagram)
        yield kind, datagram[_HEADER.size : length]
        datagram = datagram[max(_padded(length), _HEADER.size) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : length]
        data = data[max(_padded(length), _ATTRIBUTE.size) :]


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _raise_for(message: bytes) -> None:
    number = -struct.unpack_from("=i", message)[0]
    if number:
        raise OSError(number, os.strerror(number))
