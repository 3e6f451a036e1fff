from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.capture.nfqueue import messages
from certbot_standalone_nfq.capture.nfqueue.messages import (
    Acknowledgment,
    KernelVerdict,
    MalformedMessage,
    QueuedPacket,
    decode,
)

pytestmark = pytest.mark.anywhere


def attribute(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("=HH", 4 + len(value) if length is None else length, kind) + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = 0x300, length: int | None = None) -> bytes:
    body = bytes(4) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 0, 0) + body


PACKET_HEADER = attribute(1, struct.pack("!IHB", 77, 0x0800, 1))


def test_a_packet_is_read_with_its_mark_and_interface() -> None:
    attributes = PACKET_HEADER, attribute(3, b"\x10\0\0\1"), attribute(5, b"\0\0\0\2"), attribute(10, b"payload")
    assert list(decode(message(*attributes))) == [QueuedPacket(77, b"payload", length=7, mark=0x10000001, interface=2)]


@pytest.mark.parametrize(("flags", "verified"), [(b"\0\0\0\0", True), (b"\0\0\0\3", True), (b"\0\0\0\4", False)])
def test_it_is_told_whether_a_packets_checksum_is_known_to_be_right(flags: bytes, verified: bool) -> None:
    assert list(decode(message(PACKET_HEADER, attribute(14, flags)))) == [QueuedPacket(77, b"", 0, verified=verified)]


def test_a_packet_with_a_priority_keeps_its_payload() -> None:
    priority = attribute(21, b"\0\0\0\6")
    assert next(iter(decode(message(PACKET_HEADER, priority, attribute(10, b"payload"))))).payload == b"payload"  # type: ignore[union-attr]


def test_unknown_attributes_and_messages_are_passed_over() -> None:
    other = message(kind=0x301)
    assert list(decode(other + message(PACKET_HEADER, attribute(999, b"?")) + other)) == [
        QueuedPacket(77, b"", length=0)
    ]


def test_replies_carry_their_requests_number_and_an_errno() -> None:
    reply = struct.pack("=IHHIIi", 20, 2, 0, 5, 0, -1)
    assert list(decode(reply)) == [Acknowledgment(sequence=5, error=1)]


@pytest.mark.parametrize(
    "datagram",
    [
        b"\0",
        bytes(16),
        message(length=4),
        message(length=1000),
        message(),
        message(attribute(10, b"payload without a header")),
        message(attribute(1, b"")),
        message(PACKET_HEADER, attribute(10, b"x", length=2)),
        message(PACKET_HEADER, attribute(10, b"x", length=500)),
        message(PACKET_HEADER)[:-3],
        struct.pack("=IHHII", 16, 2, 0, 5, 0),
    ],
)
def test_a_damaged_message_is_malformed(datagram: bytes) -> None:
    with pytest.raises(MalformedMessage):
        list(decode(datagram))


@given(datagram=st.binary(max_size=200))
def test_whatever_comes_is_read_or_malformed(datagram: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        list(decode(datagram))


@given(cut=st.integers(0, 60), at=st.integers(0, 59), to=st.integers(0, 255))
def test_a_packet_that_was_cut_or_damaged_is_read_or_malformed(cut: int, at: int, to: int) -> None:
    datagram = bytearray(message(PACKET_HEADER, attribute(3, b"\0\0\0\1"), attribute(10, b"a payload of sorts")))
    datagram[at % len(datagram)] = to
    with contextlib.suppress(MalformedMessage):
        list(decode(bytes(datagram[:cut])))


def test_a_verdict_with_mark_and_payload_is_laid_out_as_the_kernel_wants_it() -> None:
    encoded = messages.verdict(9, 77, KernelVerdict.REPEAT, mark=0x20000000, payload=b"12345")
    assert encoded == (
        struct.pack("=IHHII", 52, 0x301, 1, 0, 0)
        + b"\0\0\0\x09"
        + struct.pack("=HH", 12, 2)
        + struct.pack("!II", 4, 77)
        + struct.pack("=HH", 8, 3)
        + b"\x20\0\0\0"
        + struct.pack("=HH", 9, 10)
        + b"12345\0\0\0"
    )
