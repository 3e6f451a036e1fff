"""Records of the programs, as packets that the session handles.

The headers have been looked at by the program: what it hands over is a whole TCP header directly behind IP's.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace

from certbot_standalone_nfq.capture.ebpf.layout import LARGE, RECORD, START_BYTES, Kind

_IPV4_HEADER, _IPV6_HEADER, _TCP_HEADER = 20, 40, 20
_CHECKSUM_AT = {socket.IPPROTO_TCP: 16, socket.IPPROTO_UDP: 6}
_FIN, _PUSH = 1, 8


@dataclass(frozen=True)
class TakenPacket:
    """A packet that is ours: nothing of it goes on, whatever the verdict."""

    payload: bytes
    """From the IP header on."""
    length: int
    interface: int
    mark: int
    verified: bool
    kind: Kind
    link_header: bytes
    """What stood in front of the IP header where it arrived."""
    left_by: int
    """The interface that its connection's SYN-ACK left by, or 0 if that is not known."""
    left_behind: bytes
    """The Ethernet header that it left behind, or empty on other links."""
    forwarded: bool = False
    """Which the program cannot tell."""
    proven: bool = True

    @property
    def connection(self) -> bytes:
        """The key of its connection in the programs' maps."""
        addresses, tcp = _addresses(self.payload)
        return addresses.ljust(32, b"\0") + self.payload[tcp : tcp + 4]

    @property
    def well_formed(self) -> bool:
        """Whether the lengths in the headers agree with each other, and with the packet."""
        _, tcp = _addresses(self.payload)
        end = tcp + (self.payload[tcp + 12] >> 4) * 4
        return tcp + _TCP_HEADER <= end <= min(_ip_length(self.payload), len(self.payload))


def read(record: bytes) -> list[TakenPacket]:
    """Return a record's packet, behind one with what came before of a request in pieces."""
    kind, interface, length, link_header, earlier, mark, left_by, left_behind = RECORD.unpack_from(record)
    begin = RECORD.size + START_BYTES
    frame = record[begin : begin + min(length, LARGE)]
    payload = frame[link_header:]
    packet = TakenPacket(
        payload=payload,
        length=length - link_header,
        interface=interface,
        mark=mark,
        verified=_is_to_be_completed(payload),
        kind=Kind(kind),
        link_header=frame[:link_header],
        left_by=left_by,
        left_behind=left_behind if any(left_behind) else b"",
    )
    if packet.kind is not Kind.TAKEN_IN_PIECES:
        return [packet]
    return [_earlier(packet, record[RECORD.size : RECORD.size + earlier]), packet]


def _earlier(packet: TakenPacket, data: bytes) -> TakenPacket:
    """Return the packet that would have brought what came before."""
    addresses, tcp = _addresses(packet.payload)
    end = tcp + (packet.payload[tcp + 12] >> 4) * 4
    made = bytearray(packet.payload[:end] + data)
    (seq,) = struct.unpack_from("!I", made, tcp + 4)
    struct.pack_into("!I", made, tcp + 4, seq - len(data) & 0xFFFFFFFF)
    made[tcp + 13] &= ~(_FIN | _PUSH)
    if len(addresses) == 8:
        struct.pack_into("!H", made, 2, len(made))
    else:
        struct.pack_into("!H", made, 4, len(made) - _IPV6_HEADER)
    return replace(packet, payload=bytes(made), length=len(made), verified=True)


def _is_to_be_completed(payload: bytes) -> bool:
    """Whether the checksum is that of the pseudo-header alone, for a network card to complete.

    So it is in packets of this machine, and in those that the kernel has merged, whose checksums it has verified.
    """
    addresses, tcp = _addresses(payload)
    length = _ip_length(payload) - tcp
    protocol, place = _carried(payload)
    total: int = sum(struct.unpack(f"!{len(addresses) // 2}H", addresses)) + protocol + length
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return payload[tcp + place : tcp + place + 2] == total.to_bytes(2, "big")


def _carried(payload: bytes) -> tuple[int, int]:
    """Return the protocol in the IP header, and where in that protocol's header the checksum is."""
    protocol = payload[9] if payload[0] >> 4 == 4 else payload[6]
    return protocol, _CHECKSUM_AT[protocol]


def _ip_length(payload: bytes) -> int:
    at, more = (2, 0) if payload[0] >> 4 == 4 else (4, _IPV6_HEADER)
    return int.from_bytes(payload[at : at + 2], "big") + more


def _addresses(payload: bytes) -> tuple[bytes, int]:
    """Return both addresses, and where TCP begins."""
    if payload[0] >> 4 == 4:
        return payload[12:_IPV4_HEADER], (payload[0] & 15) * 4
    return payload[8:_IPV6_HEADER], _IPV6_HEADER
