from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.wire.addresses import VERSIONS, is_address, packed, unpacked, version_of


@given(st.ip_addresses())
def test_an_address_is_one_of_its_version(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_address(str(address))
    assert version_of(str(address)) == address.version


@given(st.ip_addresses())
def test_an_address_is_packed_in_network_byte_order(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert packed(str(address)) == address.packed
    assert unpacked(address.packed) == str(address)


def test_there_are_two_versions() -> None:
    assert [version_of("192.0.2.1"), version_of("2001:db8::1")] == list(VERSIONS)


def test_an_address_may_have_a_zone() -> None:
    assert is_address("fe80::1%eth0")
    assert version_of("fe80::1%eth0") == 6


@pytest.mark.parametrize("text", ["", "example.com", "1.2.3", "192.0.2.256", "[::1]", "::1:80:", "192.0.2.1:80"])
def test_what_only_looks_like_an_address_is_none(text: str) -> None:
    assert is_address(text) is False
