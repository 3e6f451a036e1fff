from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.wire.sequence import advance, distance

NUMBERS = st.integers(0, 2**32 - 1)


@given(start=NUMBERS, octets=st.integers(-(2**31), 2**31 - 1))
def test_the_distance_to_where_one_advanced_is_how_far_one_advanced(start: int, octets: int) -> None:
    assert distance(start, advance(start, octets)) == octets


def test_numbers_wrap_around() -> None:
    assert advance(2**32 - 1, 1) == 0
    assert advance(0, -1) == 2**32 - 1
    assert distance(2**32 - 1, 1) == 2
    assert distance(1, 2**32 - 1) == -2
