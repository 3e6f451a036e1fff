"""A TCP segment: read from the bytes of an IP packet, and written to them, by scapy.

scapy is given the headers only. What a payload looks like is an attacker's choice, and scapy would pick
a dissector for it by port number.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

_IPPROTO_TCP = 6
_IPV6_HEADER = 40
_TCP_HEADER = 20
_HOP_LIMIT = 64


class MalformedPacket(ValueError):
    """The bytes are no whole, unfragmented TCP segment directly in an IPv4 or IPv6 packet."""


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


class Connection(NamedTuple):
    """The two ends of a connection, as its client's packets name them."""

    peer: str
    peer_port: int
    local: str
    local_port: int


class Timestamps(NamedTuple):
    """The timestamps option (RFC 7323, 3.2): this sender's clock, and the last one seen of the other's."""

    value: int
    echo: int


@dataclass(frozen=True)
class Segment:
    """One TCP segment. Addresses as text, numbers in host order, `window` as it stands in the header."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    seq: int
    ack: int
    flags: Flags
    window: int
    payload: bytes = b""
    timestamps: Timestamps | None = None
    interface: int = 0
    """Index of the interface it came in by, or whose link its addresses belong to; 0 if that is all one."""

    @property
    def connection(self) -> Connection:
        """The connection, if this segment is its client's."""
        return Connection(self.source, self.source_port, self.destination, self.destination_port)


def parse(packet: bytes, interface: int = 0) -> Segment:
    """Read the segment in an IP packet, which begins with its IPv4 or IPv6 header.

    Raises MalformedPacket for everything that is not a whole TCP segment: other protocols, fragments, IPv6
    extension headers, lengths that contradict each other or the number of bytes there are.
    """
    tcp_offset, end = _bounds(packet)
    payload_offset = tcp_offset + (packet[tcp_offset + 12] >> 4) * 4
    if not tcp_offset + _TCP_HEADER <= payload_offset <= end:
        raise MalformedPacket("TCP header length")
    header = packet[:payload_offset]
    try:
        network = IP(header) if packet[0] >> 4 == 4 else IPv6(header)
        tcp = network.payload
        return Segment(
            source=network.src,
            source_port=tcp.sport,
            destination=network.dst,
            destination_port=tcp.dport,
            seq=tcp.seq,
            ack=tcp.ack,
            flags=Flags(int(tcp.flags) & 0xFF),
            window=tcp.window,
            payload=bytes(packet[payload_offset:end]),
            timestamps=_timestamps(tcp.options),
            interface=interface,
        )
    except Exception as error:  # whatever scapy makes of hostile options, it is one malformed packet
        raise MalformedPacket(str(error)) from error


def write(segment: Segment) -> bytes:
    """Return the segment as an IP packet with all lengths and checksums in place."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", segment.timestamps)] if segment.timestamps else []
    tcp = TCP(
        sport=segment.source_port,
        dport=segment.destination_port,
        seq=segment.seq,
        ack=segment.ack,
        flags=int(segment.flags),
        window=segment.window,
        options=options,
    )
    return bytes(_network_header(segment) / tcp / segment.payload)


def _network_header(segment: Segment) -> Any:
    if ":" in segment.source:
        return IPv6(src=segment.source, dst=segment.destination, hlim=_HOP_LIMIT)
    return IP(src=segment.source, dst=segment.destination, ttl=_HOP_LIMIT, flags="DF", id=0)


def _bounds(packet: bytes) -> tuple[int, int]:
    """Return where the TCP header begins and where the packet ends, having checked that both are there."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        start, end = _ipv4_bounds(packet)
    elif version == 6 and len(packet) >= _IPV6_HEADER:
        start, end = _ipv6_bounds(packet)
    else:
        raise MalformedPacket("IP header")
    if not start + _TCP_HEADER <= end <= len(packet):
        raise MalformedPacket("packet length")
    return start, end


def _ipv4_bounds(packet: bytes) -> tuple[int, int]:
    length, fragment = struct.unpack_from("!H2xH", packet, 2)
    if packet[9] != _IPPROTO_TCP:
        raise MalformedPacket("not TCP")
    if fragment & 0x3FFF:  # more fragments, or a fragment offset
        raise MalformedPacket("fragment")
    header = (packet[0] & 0x0F) * 4
    if header < 20:
        raise MalformedPacket("IPv4 header length")
    return header, length


def _ipv6_bounds(packet: bytes) -> tuple[int, int]:
    (length,) = struct.unpack_from("!H", packet, 4)
    if packet[6] != _IPPROTO_TCP:
        raise MalformedPacket("not TCP")
    return _IPV6_HEADER, _IPV6_HEADER + length


def _timestamps(options: Any) -> Timestamps | None:
    for kind, value in options:
        if kind == "Timestamp":
            return Timestamps(*value)
    return None
