"""Selectors, as the engine and all captures understand them."""

from __future__ import annotations

import pytest

from certbot_standalone_nfq.engine.protocols import Field, Selector
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
