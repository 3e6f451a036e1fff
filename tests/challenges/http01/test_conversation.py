"""The dialogue of http-01, told as bytes in and bytes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.conversation import (
    MAX_HEAD,
    Challenge,
    Http01Conversation,
    forwarded_by,
    has_whole_head,
    response,
)
from certbot_standalone_nfq.engine.protocols import Answer, ChallengeId, Output
from tests.engine.kept import kept_by

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
LINE = f"GET /.well-known/acme-challenge/{TOKEN}".encode()
REQUEST = LINE + b" HTTP/1.1\r\nHost: example.com\r\n\r\n"
RESPONSE = response(f"{TOKEN}.thumbprint".encode())
CHALLENGE = ChallengeId("http-01", TOKEN)
ANSWERED = Output(RESPONSE, close=True, answer=Answer(CHALLENGE))
NOTHING_YET = Output()


@pytest.fixture
def conversation() -> Http01Conversation:
    return Http01Conversation(Challenge(TOKEN, LINE + b" ", RESPONSE))


def test_a_whole_request_is_answered_and_our_side_closed(conversation: Http01Conversation) -> None:
    assert conversation.receive(REQUEST, ended=False) == ANSWERED


@given(cuts=st.lists(st.integers(0, len(REQUEST)), max_size=6).map(sorted))
def test_a_request_in_pieces_is_answered_once_with_the_last_of_them(cuts: list[int]) -> None:
    conversation = Http01Conversation(Challenge(TOKEN, LINE + b" ", RESPONSE))
    ends = [*cuts, len(REQUEST)]
    outputs = [conversation.receive(REQUEST[start:end], ended=False) for start, end in zip([0, *ends], ends)]
    assert outputs.count(ANSWERED) == 1
    assert outputs[ends.index(len(REQUEST))] == ANSWERED
    assert outputs.count(NOTHING_YET) == len(outputs) - 1


@given(
    pieces=st.lists(st.tuples(st.binary(max_size=50) | st.sampled_from([LINE, b"x" * 9000]), st.booleans()), max_size=8)
)
def test_whatever_comes_is_answered_at_most_once_and_a_bounded_part_of_it_kept(
    pieces: list[tuple[bytes, bool]],
) -> None:
    conversation = Http01Conversation(Challenge(TOKEN, LINE + b" ", RESPONSE))
    outputs = []
    for data, ended in pieces:
        outputs.append(conversation.receive(data, ended=ended))
        assert max(map(len, kept_by(conversation, bytes))) <= MAX_HEAD
    assert sum(output != NOTHING_YET for output in outputs) <= 1


@pytest.mark.parametrize("missing", [1, 4, 20])
def test_a_peer_that_has_closed_gets_the_answer_to_what_it_sent(conversation: Http01Conversation, missing: int) -> None:
    assert conversation.receive(REQUEST[:-missing], ended=False) == NOTHING_YET
    assert conversation.receive(b"", ended=True) == ANSWERED


def test_a_head_without_end_is_answered_at_the_bound(conversation: Http01Conversation) -> None:
    line = LINE + b" HTTP/1.1\r\nX: "
    assert conversation.receive(line + b"x" * (MAX_HEAD - len(line) - 1), ended=False) == NOTHING_YET
    assert conversation.receive(b"x", ended=False) == ANSWERED


def test_a_request_is_not_kept_once_it_is_answered(conversation: Http01Conversation) -> None:
    request = REQUEST[:-2] + b"X: " + b"x" * 5000 + b"\r\n\r\n"
    assert conversation.receive(request, ended=False) == ANSWERED
    assert max(map(len, kept_by(conversation, bytes))) < 5000


def test_what_follows_the_request_is_ignored(conversation: Http01Conversation) -> None:
    assert conversation.receive(REQUEST + REQUEST, ended=False) == ANSWERED
    for more in (REQUEST, b"\r\n\r\n", b""):
        assert conversation.receive(more, ended=True) == NOTHING_YET


@pytest.mark.parametrize("rest", [b"x HTTP/1.1", b"?query HTTP/1.1", b"/ HTTP/1.1", b"", b"\tHTTP/1.1"])
def test_a_request_that_turns_out_to_be_for_something_else_is_not_answered_with_the_key(
    conversation: Http01Conversation, rest: bytes
) -> None:
    output = conversation.receive(LINE + rest + b"\r\n\r\n", ended=False)
    assert output.data.startswith(b"HTTP/1.1 404 ")
    assert (output.close, output.answer) == (True, None)


def test_an_answer_says_what_only_a_proxy_adds_to_a_request(conversation: Http01Conversation) -> None:
    output = conversation.receive(REQUEST[:-2] + b"X-Forwarded-For: 192.0.2.9\r\n\r\n", ended=False)
    assert output.answer == Answer(CHALLENGE, ("x-forwarded-for",))


def test_the_answer_is_what_validators_accept() -> None:
    head, _, body = RESPONSE.partition(b"\r\n\r\n")
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
    assert forwarded_by(b"GET / HTTP/1.1\r\nVia: 1.1 x\r\nHost: example.com\r\n\r\n") == ("via",)
    for line in (b"GET /via: HTTP/1.1", b"via: HTTP/1.1"):
        assert forwarded_by(line + b"\r\nHost: example.com\r\n\r\n") == ()
    assert forwarded_by(b"\xff\x00") == ()


def test_headers_of_common_proxies_are_known() -> None:
    names = (
        *("cf-connecting-ip", "cf-ray", "fastly-client-ip", "forwarded", "true-client-ip", "via", "x-amz-cf-id"),
        *("x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-varnish"),
    )
    assert forwarded_by(REQUEST[:-2] + b"".join(f"{name}: 1\r\n".encode() for name in names)) == names
