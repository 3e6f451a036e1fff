from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from certbot_standalone_nfq.wire import ip

UDP_PROTOCOL, TCP_PROTOCOL = 17, 6
ADDRESSES = {4: (st.ip_addresses(v=4), IP), 6: (st.ip_addresses(v=6), IPv6)}


@pytest.mark.parametrize("version", [4, 6])
@given(data=st.data(), payload=st.binary(max_size=100))
def test_a_completed_packet_is_what_scapy_would_have_made(version: int, data: st.DataObject, payload: bytes) -> None:
    addresses, layer = ADDRESSES[version]
    source, destination = data.draw(addresses), data.draw(addresses)
    udp = UDP(sport=1, dport=2) / payload
    expected = layer(bytes(layer(src=str(source), dst=str(destination)) / udp))
    transport = bytes(expected[UDP])
    packet = bytearray(ip.blank_header(version, UDP_PROTOCOL) + transport)
    ip.complete(packet, source.packed + destination.packed)
    read = layer(bytes(packet))
    assert (read.src, read.dst) == (expected.src, expected.dst)
    assert ip.bounds(bytes(packet), UDP_PROTOCOL) == (len(packet) - len(transport), len(packet))
    assert ip.addresses(bytes(packet)) == source.packed + destination.packed
    assert ip.transport_checksum(source.packed + destination.packed, UDP_PROTOCOL, transport) == 0
    if version == 4:
        written = read.chksum
        del read.chksum  # scapy computes what is missing
        assert IP(bytes(read)).chksum == written


@pytest.mark.parametrize("packet", [IP(dst="192.0.2.1") / UDP(), IPv6(src="2001:db8::2", dst="2001:db8::1") / UDP()])
def test_what_carries_another_protocol_is_malformed(packet: IP | IPv6) -> None:
    with pytest.raises(ip.MalformedPacket):
        ip.bounds(bytes(packet), TCP_PROTOCOL)


@pytest.mark.parametrize(
    "header", [bytes(IP(dst="192.0.2.1", proto=17)), bytes(IPv6(src="2001:db8::2", dst="2001:db8::1", nh=17))]
)
def test_a_header_that_nothing_follows_is_read_and_one_that_is_cut_short_is_malformed(header: bytes) -> None:
    assert ip.bounds(header, UDP_PROTOCOL) == (len(header), len(header))
    with pytest.raises(ip.MalformedPacket):
        ip.bounds(header[:-1], UDP_PROTOCOL)


@pytest.mark.parametrize("version", [0, 1, 3, 5, 7, 15])
def test_there_are_two_versions(version: int) -> None:
    packet = bytearray(bytes(IPv6(src="2001:db8::2", dst="2001:db8::1") / UDP()))
    packet[0] = version << 4
    with pytest.raises(ip.MalformedPacket):
        ip.bounds(bytes(packet), UDP_PROTOCOL)


@pytest.mark.parametrize("flags", ["", "MF", "MF+DF"])
@pytest.mark.parametrize("offset", [0, 1, 2, 0x1000, 0x1FFF])
def test_only_a_whole_packet_is_read(flags: str, offset: int) -> None:
    packet = bytes(IP(dst="192.0.2.1", flags=flags, frag=offset) / UDP())
    if not flags and not offset:
        assert ip.bounds(packet, UDP_PROTOCOL) == (20, 28)
        return
    with pytest.raises(ip.MalformedPacket):
        ip.bounds(packet, UDP_PROTOCOL)


@pytest.mark.parametrize("words", range(16))
def test_options_of_ipv4_of_any_length_are_skipped(words: int) -> None:
    """RFC 791, 3.1: the header's length is given in 32-bit words, of which five are fixed."""
    packet = bytearray(bytes(IP(dst="192.0.2.1") / UDP() / bytes(60)))
    packet[0] = 0x40 | words
    if words >= 5:
        assert ip.bounds(bytes(packet), UDP_PROTOCOL) == (4 * words, 88)
        return
    with pytest.raises(ip.MalformedPacket):
        ip.bounds(bytes(packet), UDP_PROTOCOL)
