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


@pytest.mark.parametrize("packet", [IP(dst="192.0.2.1") / UDP(), IPv6(dst="2001:db8::1") / UDP()])
def test_what_carries_another_protocol_is_malformed(packet: IP | IPv6) -> None:
    with pytest.raises(ip.MalformedPacket):
        ip.bounds(bytes(packet), TCP_PROTOCOL)
