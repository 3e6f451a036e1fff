"""The messages of nfnetlink_queue, as bytes: include/uapi/linux/netfilter/nfnetlink_queue.h.

Netlink's own headers are in the machine's byte order, everything within nfnetlink_queue's attributes in network
order. Attributes are padded to four bytes. Nothing here does I/O.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_NETFILTER = 12

_NLMSG_ERROR = 2
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_SUBSYSTEM_QUEUE = 3 << 8
_MSG_PACKET = _SUBSYSTEM_QUEUE | 0
_MSG_VERDICT = _SUBSYSTEM_QUEUE | 1
_MSG_CONFIG = _SUBSYSTEM_QUEUE | 2

_HEADER = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without the nested and byte-order flags

_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_CMD_BIND = 1
_COPY_PACKET = 2
_FLAG_FAIL_OPEN, _FLAG_GSO = 1, 4
_PACKET_HDR, _VERDICT_HDR, _MARK, _IFINDEX_INDEV, _PAYLOAD, _CAP_LEN, _SKB_INFO = 1, 2, 3, 5, 10, 13, 14
_CHECKSUM_NOT_VERIFIED = 4
_HOOK_FORWARD = 2  # include/uapi/linux/netfilter.h


class MalformedMessage(ValueError):
    """Bytes from the kernel that are not a whole message, or lack what every message has."""


class KernelVerdict(enum.IntEnum):
    """include/uapi/linux/netfilter.h."""

    DROP = 0
    ACCEPT = 1
    REPEAT = 4


@dataclass(frozen=True)
class QueuedPacket:
    """A packet that waits for its verdict. The payload begins at the IP header."""

    id: int
    payload: bytes
    length: int
    """Bytes of the whole packet, of which the payload may be only the first."""
    mark: int = 0
    interface: int = 0
    """Index of the interface it came in by."""
    verified: bool = True
    """Whether the TCP checksum has been verified, or is not filled in yet (nfqnl_put_packet_info)."""
    forwarded: bool = False
    """Whether it is for another machine or container."""
    proven: bool = False
    """Which this cannot tell."""


@dataclass(frozen=True)
class Acknowledgment:
    """The kernel's reply to a request of ours; `error` is an errno, 0 for success."""

    sequence: int
    error: int


def bind(queue: int, sequence: int) -> bytes:
    """Return the request to become the listener of a queue."""
    return _config(queue, sequence, _CFG_CMD, struct.pack("!BxH", _CMD_BIND, 0))


def copy_packets(queue: int, sequence: int, length: int) -> bytes:
    """Return the request to be shown the first bytes of each packet."""
    return _config(queue, sequence, _CFG_PARAMS, struct.pack("!IB", length, _COPY_PACKET))


def set_length(queue: int, sequence: int, packets: int) -> bytes:
    """Return the request to let so many packets wait."""
    return _config(queue, sequence, _CFG_MAXLEN, struct.pack("!I", packets))


def fail_open(queue: int, sequence: int) -> bytes:
    """Return the request to let packets pass, not drop them, when the queue is full."""
    return _set_flags(queue, sequence, _FLAG_FAIL_OPEN)


def fail_open_unsegmented(queue: int, sequence: int) -> bytes:
    """Return the same request, together with that to get what a network card would segment (GSO) as one packet."""
    return _set_flags(queue, sequence, _FLAG_FAIL_OPEN | _FLAG_GSO)


def _set_flags(queue: int, sequence: int, flags: int) -> bytes:
    value = struct.pack("!I", flags)
    attributes = _attribute(_CFG_MASK, value) + _attribute(_CFG_FLAGS, value)
    return _message(_MSG_CONFIG, _NLM_F_ACK, sequence, queue, attributes)


def verdict(
    queue: int, packet: int, verdict_: KernelVerdict, mark: int | None = None, payload: bytes | None = None
) -> bytes:
    """Return the verdict on a packet, with the mark and the payload that it goes on with, where they change."""
    attributes = _attribute(_VERDICT_HDR, struct.pack("!II", verdict_, packet))
    if mark is not None:
        attributes += _attribute(_MARK, struct.pack("!I", mark))
    if payload is not None:
        attributes += _attribute(_PAYLOAD, payload)
    return _message(_MSG_VERDICT, 0, 0, queue, attributes)


def decode(datagram: bytes) -> Iterator[QueuedPacket | Acknowledgment]:
    """Read the messages in a datagram of the kernel, and skip those of other kinds.

    Raises MalformedMessage at the first that cannot be read, as nothing after it can be trusted.
    """
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < _HEADER.size:
            raise MalformedMessage("netlink header")
        length, kind, _, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if not _HEADER.size <= length <= len(datagram) - offset:
            raise MalformedMessage("netlink length")
        body = datagram[offset + _HEADER.size : offset + length]
        if kind == _NLMSG_ERROR:
            yield _acknowledgment(sequence, body)
        elif kind == _MSG_PACKET:
            yield _packet(body)
        offset += _padded(length)


def _acknowledgment(sequence: int, body: bytes) -> Acknowledgment:
    if len(body) < 4:
        raise MalformedMessage("netlink error")
    return Acknowledgment(sequence, -struct.unpack_from("=i", body)[0])


def _packet(body: bytes) -> QueuedPacket:
    attributes = dict(_attributes(body[_NFGENMSG.size :]))
    header = attributes.get(_PACKET_HDR, b"")
    if len(header) < 4:
        raise MalformedMessage("packet without its header")
    payload = attributes.get(_PAYLOAD, b"")
    return QueuedPacket(
        id=_number(header[:4]),
        payload=payload,
        length=_number(attributes.get(_CAP_LEN)) or len(payload),  # given only for a packet that is cut
        mark=_number(attributes.get(_MARK)),
        interface=_number(attributes.get(_IFINDEX_INDEV)),
        verified=not _number(attributes.get(_SKB_INFO)) & _CHECKSUM_NOT_VERIFIED,
        forwarded=_number(header[6:7]) == _HOOK_FORWARD,
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while len(data) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= length <= len(data) - offset:
            raise MalformedMessage("attribute length")
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _padded(length)


def _config(queue: int, sequence: int, kind: int, value: bytes) -> bytes:
    return _message(_MSG_CONFIG, _NLM_F_ACK, sequence, queue, _attribute(kind, value))


def _message(kind: int, flags: int, sequence: int, queue: int, attributes: bytes) -> bytes:
    body = _NFGENMSG.pack(0, 0, queue) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _padded(length: int) -> int:
    return (length + 3) & ~3
