from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, connection_of, locate, parse, read, read_control, write

numbers = st.integers(0, 2**32 - 1)
ports = st.integers(1, 65535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    addresses = draw(st.sampled_from([ipv4, ipv6]))
    return Segment(
        source=draw(addresses),
        source_port=draw(ports),
        destination=draw(addresses),
        destination_port=draw(ports),
        seq=draw(numbers),
        ack=draw(numbers),
        flags=Flags(draw(st.integers(0, 255))),
        window=draw(st.integers(0, 65535)),
        payload=draw(st.binary(max_size=1400)),
        timestamps=draw(st.none() | st.builds(Timestamps, numbers, numbers)),
    )


def same_address(one: str, other: str) -> bool:
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)


@given(segment=segments())
def test_a_written_segment_reads_back_as_it_was(segment: Segment) -> None:
    read = parse(write(segment))
    assert same_address(read.source, segment.source)
    assert same_address(read.destination, segment.destination)
    assert (read.seq, read.ack, read.flags, read.window) == (segment.seq, segment.ack, segment.flags, segment.window)
    assert (read.payload, read.timestamps) == (segment.payload, segment.timestamps)


def ones_complement_sum(octets: bytes) -> int:
    octets += bytes(len(octets) % 2)
    total = sum(int.from_bytes(octets[at : at + 2], "big") for at in range(0, len(octets), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(segment=segments())
def test_checksums_of_both_families_add_up(segment: Segment) -> None:
    packet = write(segment)
    version = packet[0] >> 4
    header = (packet[0] & 0xF) * 4 if version == 4 else 40
    addresses = packet[12:20] if version == 4 else packet[8:40]
    tcp = packet[header:]
    assert ones_complement_sum(addresses + (6).to_bytes(4, "big") + len(tcp).to_bytes(4, "big") + tcp) == 0xFFFF
    if version == 4:
        assert ones_complement_sum(packet[:header]) == 0xFFFF


@given(packet=st.binary(max_size=200))
def test_whatever_is_no_segment_is_malformed(packet: bytes) -> None:
    try:
        segment = parse(packet)
    except MalformedPacket:
        return
    assert len(segment.payload) < len(packet)


@given(segment=segments(), data=st.data())
def test_a_damaged_segment_is_read_or_malformed(segment: Segment, data: st.DataObject) -> None:
    packet = bytearray(write(segment))
    for _ in range(data.draw(st.integers(1, 6))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedPacket):
        parse(bytes(packet[: data.draw(st.integers(0, len(packet)))]))


@given(segment=segments(), data=st.data())
def test_of_a_packet_that_is_cut_short_the_beginning_is_read_and_no_fin(segment: Segment, data: st.DataObject) -> None:
    packet = write(segment)
    missing = data.draw(st.integers(1, 60))
    if missing > len(segment.payload):
        with pytest.raises(MalformedPacket):
            parse(packet[:-missing], length=len(packet))
        return
    read = parse(packet[:-missing], length=len(packet))
    assert read.payload == segment.payload[:-missing]
    assert read.flags == segment.flags & ~Flags.FIN
    assert (read.seq, read.ack, read.timestamps) == (segment.seq, segment.ack, segment.timestamps)


BASE = IP(src="192.0.2.1", dst="192.0.2.2")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        BASE / UDP(sport=1, dport=80) / b"GET ",
        BASE / ICMP(),
        IP(src="192.0.2.1", dst="192.0.2.2", flags="MF") / TCP(dport=80),
        IP(src="192.0.2.1", dst="192.0.2.2", frag=3) / TCP(dport=80),
        IP(src="192.0.2.1", dst="192.0.2.2", len=2000) / TCP(dport=80),
        IP(src="192.0.2.1", dst="192.0.2.2", len=30) / TCP(dport=80),
        IP(src="192.0.2.1", dst="192.0.2.2", ihl=4, len=40) / TCP(dport=80),
        BASE / TCP(dport=80, dataofs=4),
        BASE / TCP(dport=80, dataofs=15),
        IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrDestOpt() / TCP(dport=80),
        IPv6(src="2001:db8::1", dst="2001:db8::2", plen=400) / TCP(dport=80),
    ],
    ids=lambda packet: "empty" if not packet else packet.summary(),
)
def test_what_is_no_whole_tcp_segment_is_malformed(packet: IP | IPv6 | bytes) -> None:
    for find in (locate, parse):
        with pytest.raises(MalformedPacket):
            find(bytes(packet))


def test_an_interruption_while_a_segment_is_read_is_no_malformed_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signal(Exception):
        """Raised wherever the program is."""

    def interrupted(_: bytes) -> TCP:
        raise Signal

    monkeypatch.setattr(errors, "interruptions", [Signal])
    monkeypatch.setattr("certbot_standalone_nfq.wire.tcp.TCP", interrupted)
    with pytest.raises(Signal):
        parse(bytes(BASE / TCP(dport=80)))


def test_octets_behind_the_packets_end_are_no_payload_and_no_header() -> None:
    packet = bytes(BASE / TCP(dport=80) / b"payload")
    assert parse(packet + b"padding").payload == b"payload"
    with pytest.raises(MalformedPacket):
        parse(bytes(BASE / TCP(dport=80, dataofs=15)) + bytes(60))


def test_the_control_bits_stand_where_the_header_has_them() -> None:
    """RFC 9293, 3.1."""
    names = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
    assert [Flags[name] for name in names] == [1, 2, 4, 8, 16, 32, 64, 128]
    for name in names:
        assert parse(bytes(BASE / TCP(dport=80, flags=name[0]))).flags is Flags[name]


@given(segment=segments())
def test_the_reserved_bits_are_zero(segment: Segment) -> None:
    """RFC 9293, 3.1."""
    packet = write(segment)
    assert packet[locate(packet).tcp + 12] & 0x0F == 0


@given(segment=segments())
def test_sequence_number_and_control_bits_can_be_read_alone(segment: Segment) -> None:
    packet = write(segment)
    assert read_control(packet, locate(packet)) == (segment.seq, segment.flags)


def test_a_segment_belongs_to_the_interface_that_it_came_in_by_if_that_is_told() -> None:
    packet = bytes(BASE / TCP(dport=80))
    layout = locate(packet)
    connection = connection_of(packet, layout)
    assert [parse(packet).interface, parse(packet, 7).interface] == [0, 7]
    assert [read(packet, layout, connection).interface, read(packet, layout, connection, 7).interface] == [0, 7]
    assert Segment("192.0.2.1", 1, "192.0.2.2", 2, 0, 0, Flags.ACK, 0).interface == 0


@pytest.mark.parametrize("port", [53, 80, 443, 6000])
def test_a_payload_is_octets_whatever_protocol_the_ports_suggest(port: int) -> None:
    payload = bytes(range(64))
    assert parse(bytes(BASE / TCP(sport=port, dport=port) / payload)).payload == payload


@pytest.mark.parametrize("length", range(0, 44, 4))
def test_ip_options_are_skipped(length: int) -> None:
    options = b"\x01" * length  # each of them: no operation
    packet = IP(src="192.0.2.1", dst="192.0.2.2", options=options) / TCP(sport=9, dport=80, seq=7) / b"GET /"
    segment = parse(bytes(packet))
    assert (segment.connection, segment.seq) == (("192.0.2.1", 9, "192.0.2.2", 80), 7)
    assert segment.payload == b"GET /"


def test_other_options_are_no_timestamps() -> None:
    options = [("MSS", 1460), ("SAckOK", b""), ("WScale", 7), ("NOP", None), ("EOL", None)]
    assert parse(bytes(BASE / TCP(options=options))).timestamps is None
