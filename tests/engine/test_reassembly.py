from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.engine.reassembly import MAX_WAITING, Reassembly
from certbot_standalone_nfq.wire.sequence import advance
from tests.engine.kept import kept_by

STREAM = bytes(range(200))


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Pieces that cover the stream, overlapping, repeated and in any order."""
    cuts = sorted({0, len(STREAM), *draw(st.lists(st.integers(0, len(STREAM)), max_size=10))})
    covering = list(zip(cuts, cuts[1:]))
    places = st.integers(0, len(STREAM))
    others = [(min(span), max(span)) for span in draw(st.lists(st.tuples(places, places), max_size=10))]
    return draw(st.permutations(covering + others))


@given(first=st.integers(0, 2**32 - 1), order=pieces())
def test_pieces_in_any_order_with_overlaps_make_the_stream(first: int, order: list[tuple[int, int]]) -> None:
    reassembly = Reassembly(first, limit=len(order) * len(STREAM))  # room for all of them, so that none is refused
    received = b"".join(reassembly.add(advance(first, start), STREAM[start:end]) for start, end in order)
    assert received == STREAM
    assert reassembly.next_seq == advance(first, len(STREAM))


def test_octets_beyond_the_limit_are_refused() -> None:
    reassembly = Reassembly(0, limit=10)
    assert reassembly.add(10, b"x") == b""
    assert reassembly.add(11, b"xx") == b""
    assert reassembly.add(1, b"123456789ABC") == b""
    assert reassembly.add(0, b"0") == b"0123456789"
    assert reassembly.next_seq == 10
    assert reassembly.add(10, b"A") == b"A"
    assert reassembly.add(5, b"56789ABCDEFGHIJKLMN") == b"BCDEFGHIJK"


def test_what_waits_for_a_gap_is_bounded_in_all() -> None:
    reassembly = Reassembly(0, limit=100)
    for seq in range(1, 100):
        reassembly.add(seq, b"x" * (100 - seq))
    assert sum(map(len, kept_by(reassembly, bytes))) <= 100


def test_pieces_that_wait_for_a_gap_are_bounded_in_number_and_the_first_are_kept() -> None:
    reassembly = Reassembly(0, limit=1000)
    for seq in range(1, 1000, 2):
        assert reassembly.add(seq, b"x") == b""
    assert len(kept_by(reassembly, bytes)) <= MAX_WAITING
    delivered = [reassembly.add(seq, b".") for seq in range(0, 2 * MAX_WAITING + 2, 2)]
    assert delivered == [b".x"] * MAX_WAITING + [b"."]


def test_a_longer_piece_takes_the_place_of_a_shorter_one_also_when_no_more_can_wait() -> None:
    reassembly = Reassembly(0, limit=1000)
    for seq in range(1, 4 * MAX_WAITING, 2):
        reassembly.add(seq, b"x")
    reassembly.add(1, b"longer")
    assert reassembly.add(0, b".") == b".longer" + b"x"


def test_a_piece_that_takes_the_place_of_another_counts_alone_and_a_shorter_one_takes_none() -> None:
    reassembly = Reassembly(0, limit=10)
    for piece in (b"12345", b"123456789", b"1"):
        reassembly.add(1, piece)
    assert reassembly.add(0, b"0") == b"0123456789"


def test_octets_from_far_before_are_ignored() -> None:
    reassembly = Reassembly(1000, limit=100)
    assert reassembly.add(0, b"x" * 500) == b""
    assert reassembly.next_seq == 1000
