"""The dialogue as a script, with a real TLS client on the other side."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.tls_alpn01.context import context
from certbot_standalone_nfq.challenges.tls_alpn01.conversation import MAX_BYTES, TlsConversation
from certbot_standalone_nfq.engine.protocols import Answer, ChallengeId, Output
from lab.tls import ACME, HELLOS, TlsClient, client_context

NAME = "example.com"
CHALLENGE = ChallengeId("tls-alpn-01", NAME)
CONTEXT = context(NAME, "token.thumbprint")
ANSWER = Answer(CHALLENGE)


class Dialogue:
    """A client and a conversation, and all that this has said."""

    def __init__(self, client: TlsClient | None = None, using: ssl.SSLContext = CONTEXT) -> None:
        self.client = client or TlsClient(NAME)
        self.conversation = TlsConversation(CHALLENGE, using)
        self.outputs: list[Output] = []

    def say(self, data: bytes, piece: int = 1 << 20) -> bytes:
        """Let the conversation hear something, in pieces; return what it says."""
        outputs = [
            self.conversation.receive(data[begin : begin + piece], ended=False) for begin in range(0, len(data), piece)
        ]
        self.outputs += outputs
        return b"".join(output.data for output in outputs)

    def shake_hands(self, piece: int = 1 << 20) -> None:
        """Go on until the client is content."""
        said = self.client.hear()
        while said or not self.client.finished:
            said = self.client.hear(self.say(said, piece))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


@pytest.mark.parametrize("piece", [1 << 20, 100, 1])
def test_it_is_answered_once_the_clients_side_is_finished_and_not_before(version: ssl.TLSVersion, piece: int) -> None:
    dialogue = Dialogue(TlsClient(NAME, client_context(ACME, version)))
    hello = dialogue.client.hear()
    flight = dialogue.say(hello, piece)
    assert [output.answer for output in dialogue.outputs] == [None] * len(dialogue.outputs)
    finished = dialogue.client.hear(flight)
    last = dialogue.say(finished, piece)
    assert [output.answer for output in dialogue.outputs if output.answer] == [ANSWER]
    assert dialogue.outputs[-1].answer == ANSWER
    dialogue.client.hear(last)
    assert dialogue.client.finished
    assert dialogue.client.protocol == "acme-tls/1"
    assert dialogue.client.version == version.name.replace("_", ".")
    assert not any(output.close for output in dialogue.outputs)


def test_nothing_follows_the_handshake_in_tls_1_3() -> None:
    dialogue = Dialogue()
    dialogue.shake_hands()
    assert dialogue.outputs[-1] == Output(answer=ANSWER)


def test_a_client_whose_keys_are_not_those_asked_for_is_asked_again() -> None:
    using = context(NAME, "token.thumbprint")
    using.set_ecdh_curve("secp384r1")
    dialogue = Dialogue(using=using)
    retry = dialogue.say(dialogue.client.hear())
    assert not dialogue.outputs[-1].answer
    assert len(retry) < 150
    dialogue.say(dialogue.client.hear(dialogue.say(dialogue.client.hear(retry))))
    assert dialogue.outputs[-1].answer == ANSWER


def test_the_clients_goodbye_is_answered_by_the_close_alone(version: ssl.TLSVersion) -> None:
    dialogue = Dialogue(TlsClient(NAME, client_context(ACME, version)))
    dialogue.shake_hands()
    assert dialogue.say(dialogue.client.bye()) == b""
    assert dialogue.outputs[-1] == Output(close=True)
    assert dialogue.conversation.is_over


def test_a_client_that_just_ends_is_answered_likewise() -> None:
    dialogue = Dialogue()
    dialogue.shake_hands()
    assert dialogue.conversation.receive(b"", ended=True) == Output(close=True)
    assert dialogue.conversation.receive(b"", ended=True) == Output()


def test_finished_and_goodbye_may_come_together() -> None:
    dialogue = Dialogue()
    finished = dialogue.client.hear(dialogue.say(dialogue.client.hear()))
    assert dialogue.conversation.receive(finished + dialogue.client.bye(), ended=True) == Output(
        close=True, answer=ANSWER
    )


def test_a_client_that_ends_in_the_middle_is_closed_without_an_answer() -> None:
    dialogue = Dialogue()
    dialogue.say(dialogue.client.hear())
    output = dialogue.conversation.receive(b"", ended=True)
    assert (output.close, output.answer) == (True, None)


def test_a_client_that_complains_is_closed() -> None:
    dialogue = Dialogue()
    dialogue.say(dialogue.client.hear())
    dialogue.say(b"\x15\x03\x03\0\2\2\x2a")  # bad_certificate
    assert (dialogue.outputs[-1].close, dialogue.outputs[-1].answer) == (True, None)


def test_nonsense_is_answered_by_an_alert_and_the_close() -> None:
    dialogue = Dialogue()
    dialogue.say(dialogue.client.hear())
    assert dialogue.say(b"\x17\x03\x03\0\x20" + bytes(32))
    assert (dialogue.outputs[-1].close, dialogue.outputs[-1].answer) == (True, None)
    assert dialogue.say(dialogue.client.hear()) == b""


def test_what_is_sent_after_the_handshake_is_bounded() -> None:
    dialogue = Dialogue()
    dialogue.say(dialogue.client.hear())
    dialogue.say(b"\x14\x03\x03\0\1\1" * (MAX_BYTES // 6 + 1), piece=6000)
    assert dialogue.conversation.is_over
    assert dialogue.outputs[-1] == Output()


def test_after_so_many_bytes_the_connection_is_closed_and_not_before() -> None:
    dialogue = Dialogue()
    hello = dialogue.client.hear()
    finished = dialogue.client.hear(dialogue.say(hello))
    dialogue.say(finished)
    left = MAX_BYTES - len(hello) - len(finished)
    more = b"".join(dialogue.client.write(b"x" * 1000) for _ in range(left // 1000))
    assert len(more) > left
    assert dialogue.conversation.receive(more[: left - 1], ended=False) == Output()
    assert dialogue.conversation.receive(more[left - 1 : left], ended=False) == Output()
    assert dialogue.conversation.receive(more[left : left + 1], ended=False) == Output(close=True)
    assert dialogue.conversation.is_over


def test_a_client_that_ends_with_the_handshake_gets_the_rest_of_it(version: ssl.TLSVersion) -> None:
    dialogue = Dialogue(TlsClient(NAME, client_context(ACME, version)))
    finished = dialogue.client.hear(dialogue.say(dialogue.client.hear()))
    output = dialogue.conversation.receive(finished, ended=True)
    assert (output.close, output.answer) == (True, ANSWER)
    dialogue.client.hear(output.data)
    assert dialogue.client.finished


def test_a_context_takes_no_old_version_gives_no_tickets_and_does_not_negotiate_anew() -> None:
    assert CONTEXT.minimum_version is ssl.TLSVersion.TLSv1_2
    assert CONTEXT.options & ssl.OP_NO_TICKET
    assert CONTEXT.options & ssl.OP_NO_RENEGOTIATION


def test_a_context_leaves_no_file_open() -> None:
    before = os.listdir("/proc/self/fd")
    context(NAME, "token.thumbprint")
    assert os.listdir("/proc/self/fd") == before


def hellos() -> Iterator[bytes]:
    yield TlsClient(NAME).hear()
    yield from (path.read_bytes() for path in sorted(HELLOS.iterdir()))


HEARD = list(hellos())


@settings(max_examples=60)
@given(data=st.data())
def test_nothing_is_raised_whatever_comes(data: st.DataObject) -> None:
    conversation = TlsConversation(CHALLENGE, CONTEXT)
    hello = bytearray(data.draw(st.sampled_from(HEARD)))
    for _ in range(data.draw(st.integers(0, 3))):
        hello[data.draw(st.integers(0, len(hello) - 1))] ^= data.draw(st.integers(1, 255))
    for piece in (bytes(hello), *data.draw(st.lists(st.binary(max_size=100), max_size=4))):
        output = conversation.receive(piece, ended=data.draw(st.booleans()))
        assert len(output.data) < 4096
        assert output.answer is None
