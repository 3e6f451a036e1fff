from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING, without_header
from tests.wire.proxies import PROXY_HEADERS

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("header", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
def test_a_header_is_taken_off_and_nothing_is_left_of_one_that_is_not_whole(header: bytes) -> None:
    assert without_header(header + REQUEST) == REQUEST
    for length in range(len(BINARY_SIGNATURE), len(header)):
        assert without_header(header[:length]) == b"", length


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        REQUEST,
        b"PROXY",
        b"PROXIES are no proxies",
        b"PROXY " + b"x" * 101,
        b"PROXY " + b"x" * 100 + b"\r\n" + REQUEST,
        BINARY_SIGNATURE[:-1] + b"\r",
        BINARY_SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_left_as_it_is(octets: bytes) -> None:
    assert without_header(octets) == octets


@given(st.sampled_from([b"", TEXT_BEGINNING, BINARY_SIGNATURE]), st.binary(max_size=200))
def test_whatever_comes_what_is_left_is_its_end(beginning: bytes, rest: bytes) -> None:
    assert (beginning + rest).endswith(without_header(beginning + rest))


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY " + b"x" * 99 + b"\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        BINARY_SIGNATURE + b"\x21\x11" + (4080).to_bytes(2, "big") + bytes(4080),
    ],
    ids=["shortest text", "longest text", "shortest binary", "longest binary"],
)
def test_the_shortest_and_the_longest_headers_are_taken_off(header: bytes) -> None:
    assert without_header(header + REQUEST) == REQUEST
    assert without_header(header) == without_header(header[:-1]) == b""


def test_what_is_longer_than_any_header_is_left_as_it_is() -> None:
    for octets in (
        b"PROXY " + b"x" * 100 + b"\r\n",
        BINARY_SIGNATURE + b"\x21\x11" + (4081).to_bytes(2, "big") + bytes(4081),
    ):
        assert without_header(octets + REQUEST) == octets + REQUEST


def test_a_line_that_ends_sooner_than_any_header_is_none() -> None:
    for line in (b"PROXY \r\n", b"PROXY UNKNOW\r\n"):
        assert without_header(line + REQUEST) != REQUEST
