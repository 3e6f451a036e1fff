"""Selectors, as the engine and all captures understand them."""

from __future__ import annotations

import socket

import pytest

from certbot_standalone_nfq.engine.protocols import Field, Selector, Transport
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE
from tests.wire.proxies import PROXY_HEADERS


@pytest.mark.parametrize(
    ("field", "payload", "agrees"),
    [
        (Field(1, b"\x01\x02"), b"?\x01\x02?", True),
        (Field(1, b"\x01\x02"), b"?\x01\x03?", False),
        (Field(1, b"\x01\x02"), b"?\x00\x02?", False),
        (Field(1, b"\x01\x02"), b"?\x01", True),
        (Field(1, b"\x01\x02"), b"?", True),
        (Field(0, b"ab", b"\xff\xdf"), b"aB", True),
        (Field(0, b"ab", b"\xff\xdf"), b"Ab", False),
    ],
)
def test_a_field_agrees_with_what_there_is_of_it_under_its_mask(field: Field, payload: bytes, agrees: bool) -> None:
    assert field.agrees_with(payload) is agrees


def test_all_fields_of_one_alternative_must_agree() -> None:
    selector = Selector(80, ((Field(0, b"a"), Field(2, b"c")), (Field(0, b"x"),)))
    for payload in (b"abc", b"abcd", b"ab", b"xbz"):
        assert selector.matches(payload)
    for payload in (b"abx", b"bbc", b""):
        assert not selector.matches(payload)


@pytest.mark.parametrize("header", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
def test_a_proxys_header_may_come_first_if_something_follows(header: bytes) -> None:
    fields = ((Field(0, b"a"),),)
    assert Selector(80, fields).matches(header + b"abc")
    assert not Selector(80, fields).matches(header)
    assert not Selector(80, fields, after_proxy_header=False).matches(header + b"abc")


def test_a_datagram_must_have_all_of_the_fields_of_one_alternative() -> None:
    alternatives = ((Field(0, b"a"), Field(2, b"cd")), (Field(0, b"x"),))
    selector = Selector(53, alternatives, after_proxy_header=False, transport=Transport.UDP)
    for payload in (b"abcd", b"abcde", b"x"):
        assert selector.matches(payload)
    for payload in (b"abc", b"abcx", b"bbcd", b""):
        assert not selector.matches(payload)


def test_a_datagram_has_no_proxys_header() -> None:
    with pytest.raises(ValueError, match="PROXY header"):
        Selector(53, ((Field(0, b"a"),),), transport=Transport.UDP)


def test_what_a_payload_must_contain_is_looked_for_among_its_first_512_bytes() -> None:
    selector = Selector(443, ((Field(0, b"a"),),), contains=b"xyz")
    for payload in (b"axyz", b"a" + bytes(508) + b"xyz" + bytes(9)):
        assert selector.matches(payload)
    for payload in (b"axy", b"bxyz", b"xyz", b"", b"a" + bytes(509) + b"xyz"):
        assert not selector.matches(payload)


@pytest.mark.parametrize(("length", "found"), [(16, True), (512, True), (513, False)])
def test_it_is_looked_for_behind_a_proxys_header_of_at_most_512_bytes(length: int, found: bool) -> None:
    header = BINARY_SIGNATURE + b"\x21\x11" + (length - 16).to_bytes(2, "big") + bytes(length - 16)
    payload = header + b"a" + bytes(508) + b"xyz"
    assert Selector(443, ((Field(0, b"a"),),), contains=b"xyz").matches(payload) is found
    assert Selector(443, ((Field(0, b"a"),),)).matches(payload)


def test_a_selector_is_for_whole_streams_over_tcp_unless_it_says_more() -> None:
    selector = Selector(80, ((Field(0, b"a"),),))
    assert (selector.transport, selector.key, selector.contains) == (Transport.TCP, None, b"")
    assert (selector.by_server_name, selector.by_question) == (False, False)


def test_transports_are_numbered_as_in_the_ip_header() -> None:
    assert (Transport.TCP, Transport.UDP) == (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
