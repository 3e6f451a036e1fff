from __future__ import annotations

import pytest

from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX


def test_what_begins_like_a_challenge_of_any_type_is_captured() -> None:
    selectors = registry.selectors(8080)
    assert {selector.port for selector in selectors} == {8080}
    assert any(selector.matches(REQUEST_PREFIX + b"token") for selector in selectors)
    assert not any(selector.matches(b"GET / HTTP/1.1") for selector in selectors)


def test_who_asks_for_something_else_where_no_server_is_gets_a_refusal() -> None:
    assert registry.refusal().startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("start", "key"), [(REQUEST_PREFIX + b"token HTTP/1.1", "token"), (b"GET / HTTP/1.1", None), (b"", None)]
)
def test_the_challenge_that_a_stream_asks_for_is_named_pending_or_not(start: bytes, key: str | None) -> None:
    assert registry.challenge_in(start) == key
