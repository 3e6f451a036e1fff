"""A TCP segment: read from the bytes of an IP packet, and written to them, with scapy.

Where the parts of a packet lie, and whose it is, is read from fixed places, as every packet is looked at that far.
scapy reads the TCP header, with all that options can be. It is given no payload: what that looks like is an
attacker's choice, and scapy would pick a dissector for it by port number. For writing, scapy lays out each kind of
header once, and what differs from segment to segment is put in its place: scapy takes half a millisecond a packet.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.utils import checksum

from certbot_standalone_nfq import errors

_IPPROTO_TCP = 6
_IPV4_HEADER = 20
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


class Layout(NamedTuple):
    """Where the parts of a packet lie, in octets from its beginning."""

    tcp: int
    payload: int
    end: int
    """Of the payload as far as there are octets of it."""
    whole: bool
    """Whether that is all of it."""


def locate(packet: bytes, length: int | None = None) -> Layout:
    """Find the parts of an IP packet, which begins with its IPv4 or IPv6 header.

    Of a packet of `length` octets only the first may be there; all of the headers must be. Raises MalformedPacket for
    everything that is not a whole TCP segment: other protocols, fragments, IPv6 extension headers, lengths that
    contradict each other or the number of octets there are.
    """
    tcp, end = _bounds(packet)
    if not tcp + _TCP_HEADER <= end <= (len(packet) if length is None else length):
        raise MalformedPacket("packet length")
    if len(packet) < tcp + _TCP_HEADER:
        raise MalformedPacket("cut within its headers")
    payload = tcp + (packet[tcp + 12] >> 4) * 4
    if not tcp + _TCP_HEADER <= payload <= min(end, len(packet)):
        raise MalformedPacket("TCP header length")
    return Layout(tcp, payload, min(end, len(packet)), whole=end <= len(packet))


def connection_of(packet: bytes, layout: Layout) -> Connection:
    """Return the connection whose client sent a packet."""
    peer_port, local_port = struct.unpack_from("!HH", packet, layout.tcp)
    addresses = _addresses(packet)
    peer, local = addresses[: len(addresses) // 2], addresses[len(addresses) // 2 :]
    return Connection(_address_text(peer), peer_port, _address_text(local), local_port)


def is_intact(packet: bytes, layout: Layout) -> bool:
    """Tell whether the checksum of a segment that is there as a whole is right (RFC 9293, 3.1)."""
    octets = packet[layout.tcp : layout.end]
    return bool(checksum(_pseudo_header(_addresses(packet), len(octets)) + octets) == 0)


def read_control(packet: bytes, layout: Layout) -> tuple[int, Flags]:
    """Return the sequence number and the control bits."""
    seq, flags = struct.unpack_from("!I5xB", packet, layout.tcp + 4)
    return seq, Flags(flags)


def parse(packet: bytes, interface: int = 0, length: int | None = None) -> Segment:
    """Find and read the segment in a packet. Raises MalformedPacket as `locate` does."""
    layout = locate(packet, length)
    return read(packet, layout, connection_of(packet, layout), interface)


def read(packet: bytes, layout: Layout, connection: Connection, interface: int = 0) -> Segment:
    """Read the segment in a packet of this connection. Of one that is cut short, it has what is there, and no FIN.

    So the peer will be told that the rest has not come. Raises MalformedPacket if the TCP header makes no sense.
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
    source, destination = _address_octets(segment.source), _address_octets(segment.destination)
    version = 4 if len(source) == 4 else 6
    packet = bytearray(_headers(version, with_timestamps=segment.timestamps is not None))
    tcp = _IPV4_HEADER if version == 4 else _IPV6_HEADER
    struct.pack_into("!HHII", packet, tcp, segment.source_port, segment.destination_port, segment.seq, segment.ack)
    struct.pack_into("!BH", packet, tcp + 13, segment.flags, segment.window)
    if segment.timestamps:
        struct.pack_into("!II", packet, tcp + 24, *segment.timestamps)  # behind two NOPs, kind and length
    packet += segment.payload
    length = len(packet) - tcp
    struct.pack_into("!H", packet, tcp + 16, checksum(_pseudo_header(source + destination, length) + packet[tcp:]))
    packet[tcp - len(source) - len(destination) : tcp] = source + destination
    if version == 4:
        struct.pack_into("!H", packet, 2, len(packet))
        struct.pack_into("!H", packet, 10, checksum(bytes(packet[:tcp])))
    else:
        struct.pack_into("!H", packet, 4, length)
    return bytes(packet)


@functools.cache
def _headers(version: int, *, with_timestamps: bool) -> bytes:
    """Return the headers of a packet, with zeros where segments differ."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (0, 0))] if with_timestamps else []
    tcp = TCP(sport=0, dport=0, flags=0, window=0, chksum=0, options=options)
    if version == 4:
        network: Any = IP(src="0.0.0.0", dst="0.0.0.0", ttl=_HOP_LIMIT, flags="DF", id=0, len=0, chksum=0)
    else:
        network = IPv6(src="::", dst="::", hlim=_HOP_LIMIT, plen=0)
    return bytes(network / tcp)


def _addresses(packet: bytes) -> bytes:
    """Return source and destination, the last fields of the fixed header in both versions."""
    return packet[12:_IPV4_HEADER] if packet[0] >> 4 == 4 else packet[8:_IPV6_HEADER]


def _pseudo_header(addresses: bytes, length: int) -> bytes:
    """Return what the checksum is over, ahead of the segment: RFC 8200, 8.1; IPv4's adds up to the same."""
    return addresses + struct.pack("!II", length, _IPPROTO_TCP)


@functools.lru_cache(maxsize=4096)
def _address_text(octets: bytes) -> str:
    return str(ipaddress.ip_address(octets))


@functools.lru_cache(maxsize=4096)
def _address_octets(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _bounds(packet: bytes) -> tuple[int, int]:
    """Return where the TCP header begins and where the packet ends, as its IP header has it."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEADER:
        return _ipv4_bounds(packet)
    if version == 6 and len(packet) >= _IPV6_HEADER:
        return _ipv6_bounds(packet)
    raise MalformedPacket("IP header")


def _ipv4_bounds(packet: bytes) -> tuple[int, int]:
    length, fragment = struct.unpack_from("!H2xH", packet, 2)
    if packet[9] != _IPPROTO_TCP:
        raise MalformedPacket("not TCP")
    if fragment & 0x3FFF:  # more fragments, or a fragment offset
        raise MalformedPacket("fragment")
    header = (packet[0] & 0x0F) * 4
    if header < _IPV4_HEADER:
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
