"""Dialogues that are not one request and one answer: several writes, a late close, an answer before the close."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import pytest

from certbot_standalone_nfq.engine.endpoint import LIFETIME, LINGER
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.protocols import (
    UNDECIDED,
    Answer,
    ChallengeId,
    Declined,
    Output,
    Recognition,
    Selector,
)
from certbot_standalone_nfq.engine.receive_buffer import MAX_START, WINDOW
from certbot_standalone_nfq.engine.send_buffer import FIRST_TIMEOUT
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Begun, Reaction, Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, write
from tests.engine.peer import Peer, engine_for, request
from tests.wire.proxies import PROXY_HEADERS

PSH_ACK = Flags.PSH | Flags.ACK
FIN_ACK = Flags.FIN | Flags.ACK
CHALLENGE = ChallengeId("greeting", "key")


class Script:
    """A conversation that says what it was given to say, one output for each thing that it hears."""

    seconds = 120.0

    def __init__(self, *outputs: Output) -> None:
        self._outputs = list(outputs)
        self.heard: list[tuple[bytes, bool]] = []

    def receive(self, data: bytes, *, ended: bool) -> Output:
        self.heard.append((data, ended))
        return self._outputs.pop(0) if self._outputs else Output()


class Greeting:
    """A solver for streams that begin with a word, with a conversation to have about it."""

    typ: ClassVar[str] = "greeting"
    refusal: ClassVar[bytes] = b""

    def __init__(self, script: Script, word: bytes = b"HELLO") -> None:
        self._script = script
        self._word = word

    @staticmethod
    def selectors(port: int, keys: Collection[str] = ()) -> Sequence[Selector]:
        return ()

    @staticmethod
    def challenge_in(start: bytes) -> ChallengeId | None:
        return None

    @staticmethod
    def is_altered(start: bytes) -> bool:
        return False

    @staticmethod
    def key(name: str, token: str) -> str:
        return token

    def add(self, key: str, key_authorization: str) -> None: ...

    def remove(self, key: str, key_authorization: str) -> None: ...

    def pending_keys(self) -> list[bytes]:
        return []

    def recognise(self, start: bytes) -> Recognition:
        if start.startswith(self._word):
            return self._script
        return UNDECIDED if self._word.startswith(start[: len(self._word)]) else None


class Exchange:
    """A peer, and an engine that knows greetings; the time is what the test says."""

    def __init__(self, *outputs: Output) -> None:
        self.script = Script(*outputs)
        self.engine = Engine([Greeting(self.script)])
        self.peer = Peer()
        self.now = 100.0

    def hear(self, segment: Segment) -> Reaction:
        reaction = self.engine.handle(write(segment), self.now)
        self.peer.take(*reaction.send)
        return reaction

    def say(self, data: bytes = b"", flags: Flags = PSH_ACK) -> Reaction:
        return self.hear(self.peer.send(data, flags))

    def wait(self, seconds: float) -> tuple[Segment, ...]:
        self.now += seconds
        sent = self.engine.tick(self.now)
        self.peer.take(*sent)
        return sent


def test_each_write_follows_what_was_written_before_and_the_fin_only_the_close() -> None:
    exchange = Exchange(Output(b"one "), Output(b"two "), Output(b"three", close=True))
    for word in (b"HELLO", b"again"):
        (written,) = exchange.say(word).send
        assert written.flags == PSH_ACK
        assert not exchange.peer.saw_fin
    (last,) = exchange.say(b"bye").send
    assert last.flags == Flags.PSH | FIN_ACK
    assert exchange.peer.received == b"one two three"


def test_the_timer_is_off_while_all_that_was_sent_is_acknowledged() -> None:
    exchange = Exchange(Output(b"one"), Output(b"two"))
    exchange.say(b"HELLO")
    assert exchange.say().send == ()
    assert exchange.wait(60) == ()
    exchange.say(b"again")
    (again,) = exchange.wait(FIRST_TIMEOUT)
    assert again.payload == b"two"


def test_all_that_is_not_acknowledged_is_sent_again_over_the_bounds_of_writes() -> None:
    exchange = Exchange(Output(b"one"), Output(b"two", close=True))
    before = exchange.peer.ack
    exchange.say(b"HELLO")
    (second,) = exchange.hear(exchange.peer.send(b"again", PSH_ACK, ack=before)).send
    assert second.payload == b"two"
    (again,) = exchange.wait(FIRST_TIMEOUT)
    assert (again.seq, again.payload) == (before, b"onetwo")
    assert again.flags & Flags.FIN


def test_a_long_answer_goes_in_packets_that_every_path_carries() -> None:
    """RFC 9293, 3.7.1: packets of 576 bytes, if nothing larger was agreed on."""
    exchange = Exchange(Output(b"x" * 1500, close=True))
    exchange.peer.timestamps = Timestamps(1, 2)
    sent = exchange.say(b"HELLO").send
    assert [len(write(segment)) for segment in sent] == [576, 576, 576 - 3 * 524 + 1500]
    assert [segment.flags for segment in sent] == [PSH_ACK, PSH_ACK, Flags.PSH | FIN_ACK]
    assert exchange.peer.received == b"x" * 1500


def test_new_bytes_are_heard_though_they_acknowledge_less_than_what_came_before() -> None:
    exchange = Exchange(Output(b"one"), Output(b"two"))
    before = exchange.peer.ack
    exchange.say(b"HELLO")
    exchange.say()
    (second,) = exchange.hear(exchange.peer.send(b"again", PSH_ACK, ack=before)).send
    assert second.payload == b"two"


def test_a_close_without_a_word_is_a_fin_alone() -> None:
    exchange = Exchange(Output(b"one"), Output(close=True))
    exchange.say(b"HELLO")
    (fin,) = exchange.say(b"bye").send
    assert (fin.flags, fin.payload) == (FIN_ACK, b"")
    assert exchange.peer.saw_fin
    assert exchange.wait(FIRST_TIMEOUT) == (fin,)


def test_while_there_is_nothing_to_say_what_comes_is_acknowledged() -> None:
    exchange = Exchange()
    for word in (b"HELLO", b"is there", b"anybody?"):
        (acknowledgment,) = exchange.say(word).send
        assert (acknowledgment.flags, acknowledgment.payload, acknowledgment.ack) == (Flags.ACK, b"", exchange.peer.seq)


def test_the_conversation_hears_each_byte_once_and_in_order_and_the_end_once() -> None:
    exchange = Exchange()
    first, second, third = (exchange.peer.send(word, PSH_ACK) for word in (b"HELLO", b" dear", b" friend"))
    fin = exchange.peer.send(flags=FIN_ACK)
    for segment in (first, third, first, second, third, fin, fin, second):
        exchange.hear(segment)
    assert exchange.script.heard == [(b"HELLO", False), (b" dear friend", False), (b"", True)]


def test_a_fin_that_comes_early_waits_for_what_is_before_it() -> None:
    exchange = Exchange()
    segments = [exchange.peer.send(b"HELLO", PSH_ACK), exchange.peer.send(b" dear"), exchange.peer.send(flags=FIN_ACK)]
    for segment in (segments[0], segments[2], segments[1]):
        exchange.hear(segment)
    assert exchange.script.heard == [(b"HELLO", False), (b" dear", True)]


def test_what_is_behind_a_fin_is_not_heard_and_not_acknowledged() -> None:
    exchange = Exchange()
    exchange.say(b"HELLO", FIN_ACK)
    (acknowledgment,) = exchange.hear(exchange.peer.segment(b"more", PSH_ACK)).send
    assert acknowledgment.ack == exchange.peer.seq
    assert exchange.script.heard == [(b"HELLO", True)]


def test_after_the_close_the_conversation_hears_nothing_more() -> None:
    exchange = Exchange(Output(b"bye", close=True))
    exchange.say(b"HELLO")
    exchange.say(b"wait")
    exchange.say(flags=FIN_ACK)
    assert exchange.script.heard == [(b"HELLO", False)]


def test_an_answer_is_told_when_it_is_given_with_what_a_proxy_added() -> None:
    exchange = Exchange(Output(b"one"), Output(b"two", answer=Answer(CHALLENGE, ("a proxy's word",))))
    connection = exchange.peer.segment().connection
    taken_over, answered = exchange.say(b"HELLO"), exchange.say(b"again")
    assert (taken_over.verdict, taken_over.event) == (Verdict.REPLACE, Begun(connection))
    assert (answered.verdict, answered.event) == (Verdict.DROP, Answered(CHALLENGE, connection, ("a proxy's word",)))


def test_that_an_answer_arrived_is_told_once_whatever_is_said_and_closed_later() -> None:
    exchange = Exchange(Output(b"the answer", answer=Answer(CHALLENGE)), Output(b"more"), Output(close=True))
    exchange.say(b"HELLO")
    assert not exchange.engine.settled()
    arrived = exchange.say()
    assert arrived.event == Acknowledged(exchange.peer.segment().connection)
    later = [exchange.say(b"more"), exchange.say(), exchange.say(b"bye"), exchange.say(flags=FIN_ACK)]
    later += [exchange.hear(exchange.peer.segment(seq=advance(exchange.peer.seq, -1), flags=FIN_ACK))]
    assert [reaction.event for reaction in later] == [None] * 5
    assert exchange.engine.settled()


def test_a_connection_is_not_settled_before_anything_was_answered() -> None:
    exchange = Exchange(Output(), Output(b"the answer", answer=Answer(CHALLENGE)))
    exchange.say(b"HELLO")
    assert exchange.say().event is None
    assert not exchange.engine.settled()
    exchange.say(b"again")
    assert exchange.say().event == Acknowledged(exchange.peer.segment().connection)


def test_of_what_was_said_without_an_answer_only_the_beginning_is_told() -> None:
    exchange = Exchange(Output(b"no such thing", close=True))
    assert exchange.say(b"HELLO").event == Begun(exchange.peer.segment().connection)
    assert exchange.say(flags=FIN_ACK).event is None
    assert exchange.engine.settled()


def test_the_connection_lingers_only_after_both_sides_have_closed() -> None:
    exchange = Exchange(Output(b"one"), Output(close=True))
    exchange.say(b"HELLO")
    fin = exchange.peer.send(flags=FIN_ACK)
    exchange.hear(fin)
    exchange.say()
    exchange.wait(LINGER - 1)
    (acknowledgment,) = exchange.hear(fin).send
    assert acknowledgment.flags == Flags.ACK
    exchange.wait(LINGER)
    assert exchange.engine.deadline() is None


@pytest.mark.parametrize(("seconds", "given_up"), [(20.0, 20.0), (1000.0, LIFETIME)])
def test_a_connection_has_the_time_of_its_conversation_within_the_bound(seconds: float, given_up: float) -> None:
    exchange = Exchange()
    exchange.script.seconds = seconds
    exchange.say(b"HELLO")
    exchange.wait(given_up - 1)
    assert exchange.engine.deadline() is not None
    exchange.wait(1)
    assert exchange.engine.deadline() is None


def test_the_connection_does_not_linger_while_the_conversation_has_not_closed() -> None:
    exchange = Exchange(Output(b"one"))
    exchange.say(b"HELLO")
    exchange.say(flags=FIN_ACK)
    exchange.wait(LINGER)
    assert exchange.engine.deadline() is not None


@pytest.mark.parametrize("header", [b"", *PROXY_HEADERS.values()])
def test_the_conversation_does_not_hear_a_proxys_header(header: bytes) -> None:
    exchange = Exchange()
    exchange.say(header + b"HEL")
    exchange.say(b"LO")
    assert exchange.script.heard == [(b"HELLO", False)]


def test_solvers_are_asked_in_order_and_one_that_needs_more_keeps_the_connection_watched() -> None:
    first, second = Script(), Script()
    undecided = (Greeting(Script(), b"HELLO WORLD"), Greeting(Script(), b"HELP ME"))
    engine = Engine([*undecided, Greeting(first, b"HELP"), Greeting(second, b"HELP")])
    assert engine.handle(write(Peer(port=1).segment(b"HEL", PSH_ACK)), 0.0).verdict is Verdict.WATCH
    assert engine.handle(write(Peer(port=2).segment(b"HELLO", PSH_ACK)), 0.0).verdict is Verdict.WATCH
    assert engine.handle(write(Peer(port=3).segment(b"HELP", PSH_ACK)), 0.0).verdict is Verdict.REPLACE
    assert engine.handle(write(Peer(port=4).segment(b"HALT", PSH_ACK)), 0.0).verdict is Verdict.PASS
    assert (first.heard, second.heard) == ([(b"HELP", False)], [])


def test_a_challenge_that_is_declined_is_the_servers_and_that_is_told() -> None:
    class Busy(Greeting):
        def recognise(self, start: bytes) -> Recognition:
            return Declined("too many greetings")

    engine, peer = Engine([Busy(Script())]), Peer()
    reaction = engine.handle(write(peer.send(b"HELLO", PSH_ACK)), 0.0)
    assert reaction == Reaction(Verdict.PASS, event=Declined("too many greetings"))
    assert engine.handle(write(peer.send(b"HELLO", PSH_ACK)), 0.0).verdict is Verdict.PASS


def test_a_stream_that_stays_undecided_is_not_watched_beyond_a_bound() -> None:
    engine, peer = Engine([Greeting(Script(), b"x" * (2 * MAX_START))]), Peer()
    verdicts = [engine.handle(write(peer.send(b"x" * WINDOW, PSH_ACK)), 0.0).verdict for _ in range(2)]
    assert verdicts == [Verdict.WATCH, Verdict.PASS]


def test_a_solver_that_fails_leaves_the_connection_to_the_server() -> None:
    class Failing(Script):
        def receive(self, data: bytes, *, ended: bool) -> Output:
            raise ZeroDivisionError

    engine, peer = Engine([Greeting(Failing())]), Peer()
    with pytest.raises(ZeroDivisionError):
        engine.handle(write(peer.send(b"HELLO", PSH_ACK)), 0.0)
    assert engine.handle(write(peer.send(b"anybody?", PSH_ACK)), 0.0).verdict is Verdict.PASS
    assert engine.deadline() is None


def test_a_request_whose_end_comes_together_with_its_beginning_again_is_answered() -> None:
    """Linux joins segments that it sends again."""
    engine, peer = engine_for(), Peer()
    beginning = peer.segment(request()[:60], PSH_ACK)
    assert engine.handle(write(beginning), 0.0).verdict is Verdict.REPLACE
    reaction = engine.handle(write(peer.send(request(), PSH_ACK)), 0.0)
    peer.take(*reaction.send)
    assert peer.received.startswith(b"HTTP/1.1 200 ")
    assert peer.saw_fin
    assert isinstance(reaction.event, Answered)
