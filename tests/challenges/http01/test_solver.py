from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.solver import (
    ENOUGH,
    REQUEST_PREFIX,
    Finding,
    Http01Solver,
    forwarded_by,
    has_whole_head,
)
from tests.wire.proxies import PROXY_HEADERS

ALPHABET = string.ascii_letters + string.digits + "-_"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
REQUEST = f"GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode()
DECISIVE = len(REQUEST_PREFIX) + ENOUGH
tokens = st.text(ALPHABET, min_size=1, max_size=64)


@pytest.fixture
def pending() -> Http01Solver:
    challenges = Http01Solver()
    challenges.add(TOKEN, f"{TOKEN}.thumbprint")
    return challenges


def test_a_request_is_recognised_once_enough_of_its_token_has_come(pending: Http01Solver) -> None:
    for length in range(len(REQUEST) + 1):
        recognition = pending.recognise(REQUEST[:length])
        assert recognition.finding is (Finding.CHALLENGE if length >= DECISIVE else Finding.BEGINNING), length
        assert (recognition.challenge is not None) == (length >= DECISIVE)


def test_tokens_that_begin_alike_are_told_apart_where_they_differ(pending: Http01Solver) -> None:
    other = TOKEN[:30] + "different"
    pending.add(other, "other")
    alike = f"GET /.well-known/acme-challenge/{TOKEN[:30]}".encode()
    assert pending.recognise(alike).finding is Finding.BEGINNING
    for token, following in ((TOKEN, TOKEN[30:31]), (other, "d")):
        challenge = pending.recognise(alike + following.encode()).challenge
        assert challenge is not None
        assert challenge.token == token


@pytest.mark.parametrize("header", [b"", *PROXY_HEADERS.values()])
def test_a_request_is_selected_whole_or_in_part_also_behind_a_proxys_header(header: bytes) -> None:
    (selector,) = Http01Solver.selectors(80)
    assert selector.port == 80
    for length in range(1, len(REQUEST) + 1):
        assert selector.matches(header + REQUEST[:length])
    assert not selector.matches(header + b"GET / HTTP/1.1")
    assert not selector.matches(header + b"GET /.well-known/other")


@pytest.mark.parametrize("rest", ["", "x HTTP/1.1", "?query HTTP/1.1", "/ HTTP/1.1"])
def test_a_request_that_turns_out_to_be_for_something_else_is_not_answered_with_the_key(
    pending: Http01Solver, rest: str
) -> None:
    challenge = pending.recognise(REQUEST[:DECISIVE]).challenge
    assert challenge is not None
    head = f"GET /.well-known/acme-challenge/{TOKEN}{rest}\r\n\r\n".encode()
    assert challenge.respond(head).startswith(b"HTTP/1.1 404 ")
    assert challenge.respond(REQUEST).startswith(b"HTTP/1.1 200 ")


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
    assert pending.recognise(request_line.encode() + b"\r\n\r\n").finding is Finding.UNRELATED


@given(place=st.integers(0, len(REQUEST) - 1), octet=st.integers(0, 255))
def test_a_request_with_another_octet_in_its_line_is_unrelated(place: int, octet: int) -> None:
    challenges = Http01Solver()
    challenges.add(TOKEN, "answer")
    changed = REQUEST[:place] + bytes([octet]) + REQUEST[place + 1 :]
    line = len(REQUEST_PREFIX) + len(TOKEN) + len(" HTTP/1.")
    same = changed[:line] == REQUEST[:line]
    assert (challenges.recognise(changed).finding is Finding.CHALLENGE) == same


@given(octets=st.binary(max_size=200))
def test_arbitrary_octets_are_judged_without_an_error(octets: bytes) -> None:
    challenges = Http01Solver()
    challenges.add(TOKEN, "answer")
    related = challenges.recognise(octets).finding is not Finding.UNRELATED
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
            assert both.recognise(request[:length]) == only.recognise(request[:length])


def test_adding_a_token_twice_counts_once(pending: Http01Solver) -> None:
    pending.add(TOKEN, "the newer answer")
    challenge = pending.recognise(REQUEST).challenge
    assert challenge is not None
    assert challenge.answer.endswith(b"the newer answer")
    pending.remove(TOKEN)
    assert len(pending) == 0
    assert pending.recognise(REQUEST[:40]).finding is Finding.UNRELATED


@pytest.mark.parametrize("token", ["", "../../etc/passwd", "with space", "a\r\nb", "ü"])
def test_what_is_no_token_is_refused(pending: Http01Solver, token: str) -> None:
    with pytest.raises(ValueError, match="not a challenge token"):
        pending.add(token, "answer")


def test_nothing_is_recognised_when_nothing_is_pending() -> None:
    assert Http01Solver().recognise(b"G").finding is Finding.UNRELATED


def test_the_answer_is_what_validators_accept(pending: Http01Solver) -> None:
    challenge = pending.recognise(REQUEST).challenge
    assert challenge is not None
    head, _, body = challenge.respond(REQUEST).partition(b"\r\n\r\n")
    assert body == f"{TOKEN}.thumbprint".encode()
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/octet-stream",
        f"Content-Length: {len(body)}".encode(),
        b"Connection: close",
    ]


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n"])
def test_the_empty_line_ends_a_head(end: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x" + end
    assert has_whole_head(head)
    assert not has_whole_head(head[:-1])


def test_headers_that_only_proxies_add_are_found_whatever_their_case() -> None:
    head = b"GET / HTTP/1.1\r\nHost: via\r\nVIA: 1.1 x\r\nX-Forwarded-For: 192.0.2.9\r\nvia: 1.1 y\r\n\r\n"
    assert forwarded_by(head) == ("via", "x-forwarded-for")
    assert forwarded_by(b"GET /via: HTTP/1.1\r\nHost: example.com\r\n\r\n") == ()
    assert forwarded_by(b"\xff\x00") == ()
