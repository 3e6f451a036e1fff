"""A TCP segment: read from the bytes of an IP packet, and written to them, with scapy.

Every packet is read from fixed places first: where its parts lie, and which connection it belongs to. scapy reads the
TCP header, whose options vary. It gets no payload: an attacker chooses that, and scapy would pick a dissector for it
by port number. For writing, scapy makes each kind of header once, and what differs from segment to segment is put in
its place: scapy takes half a millisecond a packet.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.wire import ip
from certbot_standalone_nfq.wire.addresses import packed, unpacked, version_of
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.layers import TCP

_PROTOCOL = 6  # of IP
_HEADER = 20
_PORTS = struct.Struct("!HH")
_CONTROL = struct.Struct("!I5xB")


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
    """Index of the interface it came in by, or whose link its addresses belong to; 0 if that does not matter."""

    @property
    def connection(self) -> Connection:
        """The connection, if this segment is its client's."""
        return Connection(self.source, self.source_port, self.destination, self.destination_port)


class Layout(NamedTuple):
    """Where the parts of a packet lie, in bytes from its beginning."""

    tcp: int
    payload: int
    end: int
    """Of those bytes of the payload that are there."""
    whole: bool
    """Whether that is all of it."""


def locate(packet: bytes, length: int | None = None) -> Layout:
    """Find the parts of an IP packet, which begins with its IPv4 or IPv6 header.

    Of a packet of `length` bytes only the first may be there; all of the headers must be. Raises MalformedPacket for
    everything that is not a whole TCP segment: other protocols, fragments, IPv6 extension headers, lengths that
    contradict each other or the number of bytes.
    """
    tcp, end = ip.bounds(packet, _PROTOCOL)
    there = len(packet)
    if not tcp + _HEADER <= end <= (there if length is None else length):
        raise MalformedPacket("packet length")
    if there < tcp + _HEADER:
        raise MalformedPacket("cut within its headers")
    payload = tcp + (packet[tcp + 12] >> 4) * 4
    if not tcp + _HEADER <= payload <= min(end, there):
        raise MalformedPacket("TCP header length")
    return Layout(tcp, payload, min(end, there), whole=end <= there)


def connection_of(packet: bytes, layout: Layout) -> Connection:
    """Return the connection whose client sent a packet."""
    peer_port, local_port = _PORTS.unpack_from(packet, layout.tcp)
    addresses = ip.addresses(packet)
    middle = len(addresses) // 2
    return Connection(unpacked(addresses[:middle]), peer_port, unpacked(addresses[middle:]), local_port)


def is_intact(packet: bytes, layout: Layout) -> bool:
    """Whether the checksum of a segment that is there as a whole is right (RFC 9293, 3.1)."""
    segment = packet[layout.tcp : layout.end]
    return ip.transport_checksum(ip.addresses(packet), _PROTOCOL, segment) == 0


def read_control(packet: bytes, layout: Layout) -> tuple[int, Flags]:
    """Return the sequence number and the control bits."""
    seq, flags = _CONTROL.unpack_from(packet, layout.tcp + 4)
    return seq, Flags(flags)


def parse(packet: bytes, interface: int = 0, length: int | None = None) -> Segment:
    """Find and read the segment in a packet. Raises MalformedPacket as `locate` does."""
    layout = locate(packet, length)
    return read(packet, layout, connection_of(packet, layout), interface)


def read(packet: bytes, layout: Layout, connection: Connection, interface: int = 0) -> Segment:
    """Read the segment in a packet of this connection. Raises MalformedPacket if the TCP header makes no sense.

    Of a packet that is cut short, it has the payload that is there, and no FIN: our acknowledgment asks for the rest.
    """
    try:
        tcp = TCP(packet[layout.tcp : layout.payload])
        flags = Flags(int(tcp.flags) & 0xFF)
        return Segment(
            source=connection.peer,
            source_port=connection.peer_port,
            destination=connection.local,
            destination_port=connection.local_port,
            seq=tcp.seq,
            ack=tcp.ack,
            flags=flags if layout.whole else flags & ~Flags.FIN,
            window=tcp.window,
            payload=bytes(packet[layout.payload : layout.end]),
            timestamps=_timestamps(tcp.options),
            interface=interface,
        )
    except Exception as error:  # whatever scapy makes of hostile options, it is one malformed packet
        errors.raise_interruption(error)
        raise MalformedPacket(str(error)) from error


def write(segment: Segment) -> bytes:
    """Return the segment as an IP packet with all lengths and checksums in place."""
    addresses = packed(segment.source) + packed(segment.destination)
    header, tcp = _headers(version_of(segment.source), with_timestamps=segment.timestamps is not None)
    packet = bytearray(header)
    struct.pack_into("!HHII", packet, tcp, segment.source_port, segment.destination_port, segment.seq, segment.ack)
    struct.pack_into("!BH", packet, tcp + 13, segment.flags, segment.window)
    if segment.timestamps:
        struct.pack_into("!II", packet, tcp + 24, *segment.timestamps)  # behind two NOPs, kind and length
    packet += segment.payload
    struct.pack_into("!H", packet, tcp + 16, ip.transport_checksum(addresses, _PROTOCOL, bytes(packet[tcp:])))
    ip.complete(packet, addresses)
    return bytes(packet)


@functools.cache
def _headers(version: int, *, with_timestamps: bool) -> tuple[bytes, int]:
    """Return the headers of a packet, with zeros where segments differ, and where the TCP header begins."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (0, 0))] if with_timestamps else []
    network = ip.blank_header(version, _PROTOCOL)
    return network + bytes(TCP(sport=0, dport=0, flags=0, window=0, chksum=0, options=options)), len(network)


def _timestamps(options: Any) -> Timestamps | None:
    for kind, value in options:
        if kind == "Timestamp":
            return Timestamps(*value)
    return None
