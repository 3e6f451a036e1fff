from __future__ import annotations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.dns01.conversation import MAX_MESSAGE, Dns01Conversation
from certbot_standalone_nfq.engine.protocols import Answer, ChallengeId, Declined, Output, Undecided
from tests.challenges.dns01.messages import NAME, VALUE, over_tcp, pending_solver, query, values

ANSWER = Answer(ChallengeId("dns-01", NAME))
TXT, NS, FOREIGN = query(edns=1232), query(typ="NS"), query("example.com")


def begin() -> Dns01Conversation:
    conversation = pending_solver().recognise(over_tcp(TXT))
    assert isinstance(conversation, Dns01Conversation)
    return conversation


def answered(stream: bytes) -> list[set[str]]:
    """Return the values in each response of a stream, which has nothing else."""
    found = []
    while stream:
        length = int.from_bytes(stream[:2], "big")
        found.append(values(dns.message.from_wire(stream[2 : 2 + length])))
        stream = stream[2 + length :]
    return found


def test_one_query_is_answered_and_the_connection_closed() -> None:
    output = begin().receive(over_tcp(TXT), ended=False)
    assert answered(output.data) == [{VALUE}]
    assert output.close
    assert output.answer == ANSWER


def test_a_query_comes_byte_by_byte() -> None:
    conversation, stream = begin(), over_tcp(TXT)
    for place in range(len(stream) - 1):
        assert conversation.receive(stream[place : place + 1], ended=False) == Output()
    assert answered(conversation.receive(stream[-1:], ended=False).data) == [{VALUE}]


def test_several_queries_are_answered_in_turn() -> None:
    output = begin().receive(over_tcp(NS, TXT, TXT), ended=False)
    assert answered(output.data) == [set(), {VALUE}, {VALUE}]
    assert output.close
    assert output.answer == ANSWER


def test_a_further_query_may_be_as_long_as_the_bound() -> None:
    assert not begin().receive(over_tcp(NS) + MAX_MESSAGE.to_bytes(2, "big"), ended=False).close


def test_a_further_query_that_has_begun_is_waited_for() -> None:
    conversation, stream = begin(), over_tcp(NS, TXT)
    first = conversation.receive(stream[:-5], ended=False)
    assert (answered(first.data), first.close, first.answer) == ([set()], False, None)
    assert conversation.receive(stream[-5:], ended=False).close


@pytest.mark.parametrize(
    "rest",
    [over_tcp(FOREIGN), over_tcp(b""), (MAX_MESSAGE + 1).to_bytes(2, "big")],
    ids=["another name", "nothing", "too much"],
)
def test_what_is_not_ours_behind_a_query_closes_the_connection(rest: bytes) -> None:
    """The client asks again on another one, of the server."""
    output = begin().receive(over_tcp(TXT) + rest, ended=False)
    assert answered(output.data) == [{VALUE}]
    assert output.close


def test_nothing_is_said_once_the_connection_is_closed() -> None:
    conversation = begin()
    conversation.receive(over_tcp(TXT), ended=False)
    assert conversation.receive(over_tcp(TXT), ended=True) == Output()


def test_the_end_within_a_query_closes_the_connection() -> None:
    assert begin().receive(over_tcp(TXT)[:-1], ended=True) == Output(close=True)


def test_a_challenge_that_is_removed_meanwhile_is_not_answered() -> None:
    solver = pending_solver()
    conversation = solver.recognise(over_tcp(TXT))
    assert conversation is not None
    assert not isinstance(conversation, (Declined, Undecided))
    solver.remove(NAME, "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.thumbprint")
    assert conversation.receive(over_tcp(TXT), ended=False) == Output(close=True)


@given(pieces=st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([over_tcp(TXT), over_tcp(FOREIGN)]))))
def test_no_bytes_trouble_it_and_little_is_kept(pieces: list[bytes]) -> None:
    conversation = begin()
    outputs = [conversation.receive(piece, ended=False) for piece in pieces]
    assert sum(output.close for output in outputs) <= 1
