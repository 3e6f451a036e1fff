from __future__ import annotations

import enum
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.solver import (
    ENOUGH,
    REQUEST_PREFIX,
    Http01Solver,
)
from certbot_standalone_nfq.engine.protocols import (
    UNDECIDED,
    Answer,
    ChallengeId,
    Declined,
    Output,
    Recognition,
    Undecided,
)
from tests.engine.kept import kept_by
from tests.wire.proxies import PROXY_HEADERS

ALPHABET = string.ascii_letters + string.digits + "-_"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
REQUEST = f"GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode()
DECISIVE = len(REQUEST_PREFIX) + ENOUGH
tokens = st.text(ALPHABET, min_size=1, max_size=64)


class Finding(enum.Enum):
    """What a recognition says."""

    UNRELATED = enum.auto()
    BEGINNING = enum.auto()
    CHALLENGE = enum.auto()


def finding(recognition: Recognition) -> Finding:
    if recognition is None:
        return Finding.UNRELATED
    return Finding.BEGINNING if recognition is UNDECIDED else Finding.CHALLENGE


def answered(recognition: Recognition, token: str) -> Output | None:
    """Return what a conversation says to a whole request for a token, if there is a conversation."""
    if recognition is None or isinstance(recognition, (Declined, Undecided)):
        return None
    return recognition.receive(f"GET /.well-known/acme-challenge/{token} HTTP/1.1\r\n\r\n".encode(), ended=False)


@pytest.fixture
def pending() -> Http01Solver:
    solver = Http01Solver()
    solver.add(TOKEN, f"{TOKEN}.thumbprint")
    return solver


def test_a_request_is_recognised_once_enough_of_its_token_has_come(pending: Http01Solver) -> None:
    for length in range(len(REQUEST) + 1):
        expected = Finding.CHALLENGE if length >= DECISIVE else Finding.BEGINNING
        assert finding(pending.recognise(REQUEST[:length])) is expected, length


def test_what_is_pending_is_found_where_the_selector_says_that_keys_are(pending: Http01Solver) -> None:
    (selector,) = pending.selectors(80)
    assert selector.key
    assert [REQUEST.startswith(key, selector.key.offset) for key in pending.pending_keys()] == [True]
    assert selector.key.offset + selector.key.length == DECISIVE
    pending.remove(TOKEN)
    assert not pending.pending_keys()


def test_eleven_characters_of_a_token_tell_it_from_another_programs_and_ten_do_not(pending: Http01Solver) -> None:
    """66 bits. Connections for another token stay the server's, who may be another ACME client."""
    begin = len(REQUEST_PREFIX)
    assert pending.recognise(REQUEST[: begin + 10]) is UNDECIDED
    assert finding(pending.recognise(REQUEST[: begin + 11])) is Finding.CHALLENGE
    for length in range(1, 11):
        assert pending.recognise(REQUEST[: begin + length] + b"%") is None


def test_tokens_that_begin_alike_are_told_apart_by_the_whole_request(pending: Http01Solver) -> None:
    other = TOKEN[:30] + "different"
    pending.add(other, "other")
    for length in (ENOUGH, 30):
        alike = REQUEST_PREFIX + TOKEN[:length].encode()
        for token in (TOKEN, other):
            output = answered(pending.recognise(alike), token)
            assert output is not None
            assert output.answer == Answer(ChallengeId("http-01", token))


def test_of_tokens_that_begin_alike_the_others_stay_when_one_is_removed_and_nothing_when_all_are(
    pending: Http01Solver,
) -> None:
    other = TOKEN[:30] + "different"
    pending.add(other, "other")
    pending.remove(TOKEN, "")
    assert finding(pending.recognise(REQUEST_PREFIX + other[:ENOUGH].encode())) is Finding.CHALLENGE
    pending.remove(other, "")
    assert kept_by(pending, set) == []


@given(guess=st.text(ALPHABET, max_size=ENOUGH - 1), right=st.integers(0, ENOUGH - 1))
def test_a_stranger_does_not_learn_whether_the_first_characters_of_a_guess_are_right(guess: str, right: int) -> None:
    solver = Http01Solver()
    solver.add(TOKEN, "answer")
    beginning = (TOKEN[:right] + guess)[: ENOUGH - 1].encode()
    assert solver.recognise(REQUEST_PREFIX + beginning) is UNDECIDED
    assert solver.recognise(REQUEST_PREFIX + beginning + b" HTTP/1.1") is None


@given(guess=st.text(ALPHABET, max_size=64))
def test_a_stranger_does_not_learn_whether_the_later_characters_of_a_guess_are_right(guess: str) -> None:
    solver = Http01Solver()
    solver.add(TOKEN, "answer")
    found = solver.recognise(REQUEST_PREFIX + TOKEN[:ENOUGH].encode() + guess.encode())
    assert finding(found) is Finding.CHALLENGE


@pytest.mark.parametrize("header", [b"", *PROXY_HEADERS.values()])
def test_a_request_is_selected_whole_or_in_part_also_behind_a_proxys_header(header: bytes) -> None:
    (selector,) = Http01Solver.selectors(80)
    assert selector.port == 80
    for length in range(1, len(REQUEST) + 1):
        assert selector.matches(header + REQUEST[:length])
    assert not selector.matches(header + b"GET / HTTP/1.1")
    assert not selector.matches(header + b"GET /.well-known/other")


@pytest.mark.parametrize(
    "request_line",
    [
        f"POST /.well-known/acme-challenge/{TOKEN} HTTP/1.1",
        f"HEAD /.well-known/acme-challenge/{TOKEN} HTTP/1.1",
        f"get /.well-known/acme-challenge/{TOKEN} HTTP/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN}x HTTP/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN[:-1]} HTTP/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN}/ HTTP/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN}?query HTTP/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN}\tHTTP/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN} HTTQ/1.1",
        f"GET /.well-known/acme-challenge/{TOKEN.lower()} HTTP/1.1",
        f"GET /.well-known/acme-challenge//{TOKEN} HTTP/1.1",
        "GET /.well-known/acme-challenge/ HTTP/1.1",
        "GET / HTTP/1.1",
    ],
)
def test_any_other_request_is_unrelated(pending: Http01Solver, request_line: str) -> None:
    assert pending.recognise(request_line.encode() + b"\r\n\r\n") is None


@given(place=st.integers(0, len(REQUEST) - 1), octet=st.integers(0, 255))
def test_a_request_with_another_octet_in_its_line_is_unrelated(place: int, octet: int) -> None:
    solver = Http01Solver()
    solver.add(TOKEN, "answer")
    changed = REQUEST[:place] + bytes([octet]) + REQUEST[place + 1 :]
    line = len(REQUEST_PREFIX) + len(TOKEN) + len(" HTTP/1.")
    same = changed[:line] == REQUEST[:line]
    assert finding(solver.recognise(changed)) is (Finding.CHALLENGE if same else Finding.UNRELATED)


@given(octets=st.binary(max_size=200))
def test_arbitrary_octets_are_judged_without_an_error(octets: bytes) -> None:
    solver = Http01Solver()
    solver.add(TOKEN, "answer")
    related = solver.recognise(octets) is not None
    assert not related or octets[:4] == b"GET "[: len(octets)]


@given(names=st.lists(tokens, unique=True, min_size=1, max_size=8), data=st.data())
def test_withdrawing_tokens_leaves_the_others_as_they_were(names: list[str], data: st.DataObject) -> None:
    withdrawn = data.draw(st.sets(st.sampled_from(names)))
    both, only = Http01Solver(), Http01Solver()
    for name in names:
        both.add(name, "answer")
        if name not in withdrawn:
            only.add(name, "answer")
    for name in withdrawn:
        both.remove(name)
        both.remove(name)
    for name in names:
        request = f"GET /.well-known/acme-challenge/{name} HTTP/1.0".encode()
        for length in range(len(request) + 1):
            one, other = both.recognise(request[:length]), only.recognise(request[:length])
            assert finding(one) is finding(other)
            assert answered(one, name) == answered(other, name)


def test_adding_a_token_twice_counts_once(pending: Http01Solver) -> None:
    pending.add(TOKEN, "the newer answer")
    output = answered(pending.recognise(REQUEST), TOKEN)
    assert output is not None
    assert output.data.endswith(b"the newer answer")
    pending.remove(TOKEN)
    assert all(pending.recognise(REQUEST[:length]) is None for length in range(len(REQUEST)))


@pytest.mark.parametrize("token", ["", "../../etc/passwd", "with space", "a\r\nb", "ü"])
def test_what_is_no_token_is_refused(pending: Http01Solver, token: str) -> None:
    with pytest.raises(ValueError, match="not a challenge token"):
        pending.add(token, "answer")


def test_nothing_is_recognised_when_nothing_is_pending() -> None:
    assert Http01Solver().recognise(b"G") is None


@pytest.mark.parametrize(
    ("rest", "altered"),
    [(b"?x=1 HTTP/1.1", True), (b"/ HTTP/1.1", True), (b"%20 HTTP/1.1", True), (b" HTTP/1.1", False), (b"", False)],
)
def test_a_request_with_something_behind_the_token_was_altered(rest: bytes, altered: bool) -> None:
    assert Http01Solver.is_altered(REQUEST_PREFIX + b"token" + rest) is altered
    assert not Http01Solver.is_altered(b"GET /" + rest)
    assert not Http01Solver.is_altered(REQUEST_PREFIX.replace(b"acme", b"some") + b"token" + rest)


def test_a_challenge_is_told_from_others_by_its_token() -> None:
    assert Http01Solver.key("example.com", "token") == "token"
