"""The IP header, of both versions: read from fixed places in a packet, and completed in one that is to be sent.

Fragments and IPv6 extension headers are not read: what a packet carries then is not at a known place.
"""

from __future__ import annotations

import struct
from typing import Any

from certbot_standalone_nfq.wire.layers import IP, IPv6, checksum

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_IPV4 = struct.Struct("!2xH2xHxB")
_IPV6 = struct.Struct("!4xHB")
_FRAGMENT = 0x3FFF  # more fragments, or a fragment offset
_HOP_LIMIT = 64


class MalformedPacket(ValueError):
    """The bytes are not a whole, unfragmented packet of the protocol in question directly behind an IP header."""


def bounds(packet: bytes, protocol: int) -> tuple[int, int]:
    """Return where begins and where ends what a packet carries, which must be of this protocol, in bytes.

    The end is what the header says: there may be fewer bytes, and it may even lie before the beginning. Raises
    MalformedPacket.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEADER:
        return _ipv4_bounds(packet, protocol)
    if version == 6 and len(packet) >= _IPV6_HEADER:
        return _ipv6_bounds(packet, protocol)
    raise MalformedPacket("IP header")


def addresses(packet: bytes) -> bytes:
    """Return source and destination, packed, one behind the other: in both versions they end the fixed header."""
    return packet[12:_IPV4_HEADER] if packet[0] >> 4 == 4 else packet[8:_IPV6_HEADER]


def transport_checksum(both_addresses: bytes, protocol: int, segment: bytes) -> int:
    """Return the checksum of what a packet carries, with a pseudo-header: 0 if its own is in place and right.

    The pseudo-header is that of RFC 8200, 8.1; IPv4's (RFC 9293, 3.1) adds up to the same.
    """
    return int(checksum(both_addresses + struct.pack("!II", len(segment), protocol) + segment))


def blank_header(version: int, protocol: int) -> bytes:
    """Return a header with zeros where packets differ: in the addresses, the length and the checksum."""
    header: Any
    if version == 4:
        header = IP(src="0.0.0.0", dst="0.0.0.0", ttl=_HOP_LIMIT, flags="DF", id=0, len=0, chksum=0, proto=protocol)
    else:
        header = IPv6(src="::", dst="::", hlim=_HOP_LIMIT, plen=0, nh=protocol)
    return bytes(header)


def complete(packet: bytearray, both_addresses: bytes) -> None:
    """Put addresses, length and checksum into a packet that begins with a blank header and is otherwise complete."""
    if packet[0] >> 4 == 4:
        packet[12:_IPV4_HEADER] = both_addresses
        struct.pack_into("!H", packet, 2, len(packet))
        struct.pack_into("!H", packet, 10, checksum(bytes(packet[:_IPV4_HEADER])))
    else:
        packet[8:_IPV6_HEADER] = both_addresses
        struct.pack_into("!H", packet, 4, len(packet) - _IPV6_HEADER)


def _ipv4_bounds(packet: bytes, protocol: int) -> tuple[int, int]:
    length, fragment, carried = _IPV4.unpack_from(packet)
    if carried != protocol:
        raise MalformedPacket("another protocol")
    if fragment & _FRAGMENT:
        raise MalformedPacket("fragment")
    header = (packet[0] & 0x0F) * 4
    if header < _IPV4_HEADER:
        raise MalformedPacket("IPv4 header length")
    return header, length


def _ipv6_bounds(packet: bytes, protocol: int) -> tuple[int, int]:
    length, carried = _IPV6.unpack_from(packet)
    if carried != protocol:
        raise MalformedPacket("another protocol")
    return _IPV6_HEADER, _IPV6_HEADER + length
