"""A UDP datagram (RFC 768): read from the bytes of an IP packet, and written to them."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

from certbot_standalone_nfq.wire import ip
from certbot_standalone_nfq.wire.addresses import packed, unpacked
from certbot_standalone_nfq.wire.ip import MalformedPacket

_PROTOCOL = 17  # of IP
_HEADER = struct.Struct("!4H")
_CHECKSUM = 6


@dataclass(frozen=True)
class Datagram:
    """One UDP datagram, whole. Addresses as text, ports in host order."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes
    interface: int = 0
    """Index of the interface it came in by, or whose link its addresses belong to; 0 if that does not matter."""

    def reply(self, payload: bytes) -> Datagram:
        """Return a datagram back to where this one came from."""
        return Datagram(self.destination, self.destination_port, self.source, self.source_port, payload, self.interface)


def is_udp(packet: bytes) -> bool:
    """Whether an IP packet, unless it has IPv6 extension headers, carries UDP."""
    place = 9 if packet[:1] and packet[0] >> 4 == 4 else 6
    return packet[place : place + 1] == bytes([_PROTOCOL])


def parse(packet: bytes, interface: int = 0, *, verified: bool = True) -> Datagram:
    """Return the datagram in an IP packet, which begins with its IPv4 or IPv6 header.

    Unless its checksum is `verified`, it is checked. Raises MalformedPacket for everything that is not a whole and
    intact datagram: other protocols, fragments, IPv6 extension headers, lengths that contradict the number of bytes.
    """
    begin, end = _bounds(packet)
    source_port, destination_port, length, checksum = _HEADER.unpack_from(packet, begin)
    if not _HEADER.size <= length <= end - begin:
        raise MalformedPacket("UDP length")
    addresses = ip.addresses(packet)
    datagram = packet[begin : begin + length]
    if not verified and not _is_intact(addresses, checksum, datagram):
        raise MalformedPacket("UDP checksum")
    middle = len(addresses) // 2
    return Datagram(
        unpacked(addresses[:middle]),
        source_port,
        unpacked(addresses[middle:]),
        destination_port,
        datagram[_HEADER.size :],
        interface,
    )


def write(datagram: Datagram) -> bytes:
    """Return the datagram as an IP packet with all lengths and checksums in place."""
    addresses = packed(datagram.source) + packed(datagram.destination)
    return _write(addresses, datagram.source_port, datagram.destination_port, datagram.payload)


def without_effect(datagram: Datagram) -> bytes:
    """Return an IP packet of the same ends that no socket gets: an empty datagram, whose checksum is wrong.

    A firewall and connection tracking see that a packet goes on; the stack that it is for discards it, in silence
    (RFC 1122, 4.1.3.4).
    """
    addresses = packed(datagram.source) + packed(datagram.destination)
    packet = bytearray(_write(addresses, datagram.source_port, datagram.destination_port, b""))
    place = len(packet) - _HEADER.size + _CHECKSUM
    (right,) = struct.unpack_from("!H", packet, place)
    struct.pack_into("!H", packet, place, right ^ 0xFFFF or 0x5555)  # zero would mean that there is none
    return bytes(packet)


def _bounds(packet: bytes) -> tuple[int, int]:
    begin, end = ip.bounds(packet, _PROTOCOL)
    if not begin + _HEADER.size <= end <= len(packet):
        raise MalformedPacket("packet length")
    return begin, end


def _is_intact(addresses: bytes, checksum: int, datagram: bytes) -> bool:
    """Whether a checksum is right; over IPv4, zero means that there is none (RFC 768; RFC 8200, 8.1)."""
    if not checksum:
        return len(addresses) == 8
    return ip.transport_checksum(addresses, _PROTOCOL, datagram) == 0


def _write(addresses: bytes, source_port: int, destination_port: int, payload: bytes) -> bytes:
    packet = bytearray(_blank_header(4 if len(addresses) == 8 else 6))
    header = _HEADER.pack(source_port, destination_port, _HEADER.size + len(payload), 0)
    checksum = ip.transport_checksum(addresses, _PROTOCOL, header + payload) or 0xFFFF
    packet += header[:_CHECKSUM] + struct.pack("!H", checksum) + payload
    ip.complete(packet, addresses)
    return bytes(packet)


@functools.cache
def _blank_header(version: int) -> bytes:
    return ip.blank_header(version, _PROTOCOL)
