from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.udp import Datagram, is_udp, parse, without_effect, write

ports = st.integers(1, 65535)
ENDS = {4: ("192.0.2.1", 40000, "198.51.100.2", 53), 6: ("2001:db8::1", 40000, "2001:db8::2", 53)}
FAMILIES = {4: IP, 6: IPv6}


@st.composite
def datagrams(draw: st.DrawFn) -> Datagram:
    addresses = draw(st.sampled_from([st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)]))
    return Datagram(draw(addresses), draw(ports), draw(addresses), draw(ports), draw(st.binary(max_size=1400)))


def by_scapy(version: int, payload: bytes = b"query", **fields: int) -> bytes:
    source, source_port, destination, port = ENDS[version]
    header = FAMILIES[version](src=source, dst=destination)
    return bytes(header / UDP(sport=source_port, dport=port, **fields) / payload)


@given(datagram=datagrams())
def test_a_written_datagram_reads_back_as_it_was(datagram: Datagram) -> None:
    assert parse(write(datagram), verified=False) == datagram
    assert is_udp(write(datagram))


@given(datagram=datagrams())
def test_scapy_agrees_with_every_checksum(datagram: Datagram) -> None:
    written = write(datagram)
    packet = (IP if written[0] >> 4 == 4 else IPv6)(written)
    checksum = packet[UDP].chksum
    del packet[UDP].chksum
    assert checksum == type(packet)(bytes(packet))[UDP].chksum
    assert bytes(packet[UDP].payload) == datagram.payload


@given(datagram=datagrams())
def test_what_is_without_effect_has_the_same_ends_no_payload_and_a_wrong_checksum(datagram: Datagram) -> None:
    packet = without_effect(datagram)
    with pytest.raises(MalformedPacket, match="UDP checksum"):
        parse(packet, verified=False)
    empty = parse(packet)
    assert empty.payload == b""
    assert empty.reply(b"").reply(datagram.payload) == datagram
    assert IP(packet).version == 6 or packet[:20] == write(empty)[:20]


@given(total=st.integers(0, 0xFFFF))
@example(total=0xAAAA)  # whose checksum is 0x5555
def test_whatever_the_right_checksum_is_the_wrong_one_is_not_the_one_that_means_none(total: int) -> None:
    datagram = Datagram("0.0.0.0", total, "0.0.0.0", 0xFFFF - 17 - 8 - 8, b"")
    packet = without_effect(datagram)
    assert packet[-2:] != b"\0\0"
    with pytest.raises(MalformedPacket, match="UDP checksum"):
        parse(packet, verified=False)


def test_a_checksum_that_comes_to_zero_is_written_as_all_ones() -> None:
    """RFC 768: zero means that there is none."""
    assert write(Datagram("0.0.0.0", 0xFFFF, "0.0.0.0", 0xFFFF - 17 - 8 - 8, b""))[-2:] == b"\xff\xff"


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_is_read(version: int) -> None:
    assert parse(by_scapy(version), 3, verified=False) == Datagram(*ENDS[version], b"query", 3)


@pytest.mark.parametrize("version", [4, 6])
def test_a_damaged_datagram_is_none_unless_its_checksum_is_vouched_for(version: int) -> None:
    damaged = by_scapy(version)[:-1] + b"!"
    assert parse(damaged).payload == b"quer!"
    with pytest.raises(MalformedPacket, match="UDP checksum"):
        parse(damaged, verified=False)


def test_a_checksum_may_be_left_out_over_ipv4_alone() -> None:
    assert parse(by_scapy(4, chksum=0), verified=False).payload == b"query"
    with pytest.raises(MalformedPacket, match="UDP checksum"):
        parse(by_scapy(6, chksum=0), verified=False)


@pytest.mark.parametrize("version", [4, 6])
def test_bytes_behind_the_datagram_are_none_of_it(version: int) -> None:
    assert parse(by_scapy(version, b"query and more", len=13)).payload == b"query"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        by_scapy(4)[:27],
        by_scapy(4, len=7),
        by_scapy(6, len=14),
        by_scapy(4)[:-1],
        bytes(IP(len=27) / UDP())[:27],
        bytes(IP() / TCP()),
        bytes(IP(flags="MF") / UDP() / b"query"),
        bytes(IPv6(src="::1") / IPv6ExtHdrDestOpt() / UDP() / b"query"),
    ],
)
def test_what_is_no_whole_datagram_is_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse(packet)


def test_other_protocols_are_told_apart() -> None:
    assert [is_udp(packet) for packet in (by_scapy(4), by_scapy(6))] == [True, True]
    others = (
        bytes(IP() / TCP()),
        bytes(IPv6(src="::1") / TCP()),
        b"",
        b"\x45",
        bytes(IPv6(src="::1") / IPv6ExtHdrDestOpt() / UDP()),
    )
    assert not any(map(is_udp, others))


@given(octets=st.binary(max_size=100), verified=st.booleans())
def test_no_bytes_raise_anything_else(octets: bytes, verified: bool) -> None:
    is_udp(octets)
    with contextlib.suppress(MalformedPacket):
        parse(octets, verified=verified)
