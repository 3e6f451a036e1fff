from __future__ import annotations

import itertools

import pytest

from certbot_standalone_nfq.engine.endpoint import LEAD, LIFETIME, LINGER
from certbot_standalone_nfq.engine.receive_buffer import WINDOW
from certbot_standalone_nfq.engine.send_buffer import FIRST_TIMEOUT, MAX_REPEATS, MAX_TIMEOUTS
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered, Verdict
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.sequence import advance
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, write
from tests.engine.peer import KEY_AUTHORIZATION, TOKEN, Peer, engine_for, request

PSH_ACK = Flags.PSH | Flags.ACK
FIN_ACK = Flags.FIN | Flags.ACK
RST_ACK = Flags.RST | Flags.ACK


class Conversation:
    """A peer and an engine with one pending token; the time is what the test says."""

    def __init__(self, peer: Peer | None = None) -> None:
        self.peer = peer or Peer()
        self.engine = engine_for()
        self.now = 100.0

    def hear(self, segment: Segment) -> tuple[Segment, ...]:
        """Let the engine have a segment; the peer takes what comes back."""
        reaction = self.engine.handle(write(segment), self.now)
        self.verdict, self.reset, self.event = reaction.verdict, reaction.reset, reaction.event
        self.peer.take(*reaction.send)
        return reaction.send

    def wait(self, seconds: float) -> tuple[Segment, ...]:
        self.now += seconds
        sent = self.engine.tick(self.now)
        self.peer.take(*sent)
        return sent

    def ask(self) -> tuple[Segment, ...]:
        return self.hear(self.peer.send(request(), PSH_ACK))


@pytest.fixture
def conversation() -> Conversation:
    return Conversation()


def test_a_request_is_answered_in_one_segment_that_also_closes(conversation: Conversation) -> None:
    (answer,) = conversation.ask()
    assert conversation.peer.body == KEY_AUTHORIZATION
    assert answer.flags == Flags.PSH | FIN_ACK
    assert answer.seq == 5000
    assert answer.ack == conversation.peer.seq
    assert isinstance(conversation.event, Answered)
    assert conversation.event.challenge == ("http-01", TOKEN)


def test_the_server_is_reset_with_the_very_number_it_expects(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    conversation.ask()
    assert conversation.verdict is Verdict.REPLACE
    reset = conversation.reset
    assert reset is not None
    assert (reset.connection, reset.seq, reset.flags, reset.payload) == (asked.connection, asked.seq, Flags.RST, b"")
    assert (reset.ack, reset.window) == (0, 0)


def test_a_quiet_exchange_needs_three_segments_and_no_timer(conversation: Conversation) -> None:
    peer = conversation.peer
    assert len(conversation.ask()) == 1
    assert conversation.hear(peer.send()) == ()
    (acknowledgment,) = conversation.hear(peer.send(flags=FIN_ACK))
    assert (acknowledgment.flags, acknowledgment.ack, acknowledgment.payload) == (Flags.ACK, peer.seq, b"")
    assert conversation.verdict is Verdict.DROP
    assert conversation.wait(LINGER - 0.1) == ()
    assert conversation.engine.settled()


def test_every_order_of_the_peers_last_segments_ends_alike() -> None:
    for order in itertools.permutations(range(3)):
        conversation = Conversation()
        peer = conversation.peer
        conversation.ask()
        segments = [peer.send(), peer.send(flags=FIN_ACK), peer.segment(seq=advance(peer.seq, -1), flags=FIN_ACK)]
        for index in order:
            conversation.hear(segments[index])
        assert conversation.engine.settled()
        assert conversation.wait(1) == ()
        conversation.wait(LINGER)
        assert conversation.engine.deadline() is None


def test_an_answer_that_is_lost_is_sent_again_until_acknowledged(conversation: Conversation) -> None:
    (first,) = conversation.ask()
    sent_again: list[Segment] = []
    for _ in range(40):
        sent_again += conversation.wait(0.25)
    assert 3 <= len(sent_again) <= 6
    assert all(again.seq == first.seq and first.payload.startswith(again.payload) for again in sent_again)
    assert conversation.hear(conversation.peer.send()) == ()
    assert conversation.wait(5) == ()


def test_the_time_between_retransmissions_grows_until_there_are_no_more(conversation: Conversation) -> None:
    conversation.ask()
    times = []
    while conversation.now < 130:
        deadline = conversation.engine.deadline()
        assert deadline is not None
        times.append(deadline - conversation.now)
        conversation.wait(times[-1])
    assert times == pytest.approx([0.3, 0.6, 1.2, 2.4, 4.8, LIFETIME - 9.3])


def test_a_request_that_comes_again_gets_the_same_answer(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    (first,) = conversation.ask()
    (second,) = conversation.hear(asked)
    assert second == first
    assert conversation.verdict is Verdict.DROP


def test_the_part_of_an_answer_that_has_not_arrived_is_sent_again_after_the_first_timeout(
    conversation: Conversation,
) -> None:
    (answer,) = conversation.ask()
    conversation.wait(FIRST_TIMEOUT * 0.9)
    conversation.hear(conversation.peer.segment(ack=advance(answer.seq, 10)))
    assert conversation.wait(FIRST_TIMEOUT * 0.9) == ()
    (again,) = conversation.wait(FIRST_TIMEOUT * 0.2)
    assert (again.seq, again.payload) == (advance(answer.seq, 10), answer.payload[10:])


def test_a_request_that_comes_again_after_the_answer_arrived_is_acknowledged(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    conversation.ask()
    conversation.hear(conversation.peer.send())
    (acknowledgment,) = conversation.hear(asked)
    assert (acknowledgment.flags, acknowledgment.payload) == (Flags.ACK, b"")
    assert acknowledgment.seq == conversation.peer.ack


def test_a_fin_in_the_requests_own_segment_is_acknowledged_with_the_answer(conversation: Conversation) -> None:
    (answer,) = conversation.hear(conversation.peer.send(request(), FIN_ACK))
    assert answer.ack == conversation.peer.seq
    assert conversation.peer.body == KEY_AUTHORIZATION
    conversation.hear(conversation.peer.send())
    assert conversation.engine.settled()


def test_a_fin_before_the_answer_is_acknowledged_closes_just_the_same(conversation: Conversation) -> None:
    peer = conversation.peer
    before = peer.ack
    conversation.ask()
    (acknowledgment,) = conversation.hear(peer.send(flags=FIN_ACK, ack=before))
    assert acknowledgment.ack == peer.seq
    assert conversation.event is None
    (answer,) = conversation.wait(FIRST_TIMEOUT)
    assert answer.payload
    conversation.hear(peer.send())
    assert conversation.engine.settled()


def test_a_fin_that_comes_again_is_acknowledged_again_for_a_while(conversation: Conversation) -> None:
    peer = conversation.peer
    conversation.ask()
    fin = peer.send(flags=FIN_ACK)
    for _ in range(3):
        conversation.wait(LINGER - 1)
        (acknowledgment,) = conversation.hear(fin)
        assert (acknowledgment.ack, acknowledgment.flags) == (peer.seq, Flags.ACK)
    conversation.wait(LINGER)
    assert conversation.engine.deadline() is None


def test_what_acknowledges_only_does_not_begin_the_lingering_anew(conversation: Conversation) -> None:
    conversation.ask()
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    for _ in range(3):
        conversation.wait(LINGER / 3)
        conversation.hear(conversation.peer.send())
    assert conversation.engine.deadline() is None


def test_nothing_but_the_peers_fin_begins_the_lingering_anew(conversation: Conversation) -> None:
    peer = conversation.peer
    first = peer.segment(request(), PSH_ACK)
    conversation.ask()
    conversation.hear(peer.send(flags=FIN_ACK))
    conversation.wait(LINGER - 1)
    for segment in (
        first,
        peer.segment(seq=advance(peer.seq, -1)),
        peer.segment(seq=advance(peer.seq, -1), flags=Flags.SYN, ack=0),
        peer.segment(seq=advance(peer.seq, -1), flags=RST_ACK),
        peer.segment(seq=advance(peer.seq, -1), flags=Flags.FIN),
        peer.segment(seq=advance(peer.seq, -1), flags=FIN_ACK, ack=advance(peer.ack, 1)),
    ):
        conversation.hear(segment)
        assert conversation.verdict is Verdict.DROP
    conversation.wait(1)
    assert conversation.engine.deadline() is None


def test_lingering_begins_when_our_fin_is_acknowledged_too(conversation: Conversation) -> None:
    before = conversation.peer.ack
    conversation.ask()
    conversation.hear(conversation.peer.send(flags=FIN_ACK, ack=before))
    assert conversation.wait(LIFETIME - 1) != ()
    conversation.hear(conversation.peer.send())
    conversation.wait(LINGER - 1)
    assert conversation.engine.deadline() is not None
    conversation.wait(1)
    assert conversation.engine.deadline() is None


def test_a_reset_ends_the_connection_at_once(conversation: Conversation) -> None:
    conversation.ask()
    assert conversation.hear(conversation.peer.send(flags=Flags.RST)) == ()
    assert conversation.verdict is Verdict.DROP
    assert conversation.engine.deadline() is None


@pytest.mark.parametrize("flags", [Flags.RST, Flags.RST | Flags.ACK])
def test_a_reset_outside_the_window_does_not(conversation: Conversation, flags: Flags) -> None:
    conversation.ask()
    for distance in (-1, WINDOW):
        conversation.hear(conversation.peer.segment(flags=flags, seq=advance(conversation.peer.seq, distance)))
        assert conversation.event is None
    assert conversation.engine.deadline() is not None
    assert not conversation.engine.settled()


def test_a_reset_says_that_the_answer_arrived_only_if_it_acknowledges_all_of_it() -> None:
    for flags, unread, arrived in (
        (RST_ACK, 0, True),
        (RST_ACK, 1, False),
        (RST_ACK, -1, False),
        (Flags.RST, 0, False),
    ):
        conversation = Conversation()
        conversation.ask()
        reset = conversation.peer.segment(flags=flags, ack=advance(conversation.peer.ack, -unread))
        assert conversation.hear(reset) == ()
        assert conversation.event == (Acknowledged(reset.connection) if arrived else None)
        assert conversation.engine.deadline() is None


@pytest.mark.parametrize("flags", [Flags.RST, RST_ACK], ids=["RST", "RST+ACK"])
@pytest.mark.parametrize("ahead", [-1, 1, 4000, WINDOW - 1, WINDOW])
def test_a_reset_that_is_near_may_be_forged_and_is_acknowledged(
    conversation: Conversation, ahead: int, flags: Flags
) -> None:
    conversation.ask()
    reset = conversation.peer.segment(flags=flags, seq=advance(conversation.peer.seq, ahead))
    sent = conversation.hear(reset)
    assert [(each.flags, each.ack) for each in sent] == [(Flags.ACK, conversation.peer.seq)][: 0 < ahead < WINDOW]
    assert conversation.event is None
    assert not conversation.engine.settled()
    assert conversation.engine.deadline() is not None
    conversation.hear(conversation.peer.segment(flags=Flags.RST))
    assert conversation.engine.deadline() is None


@pytest.mark.parametrize("gap", [0, 5000])
def test_a_new_connection_from_the_same_port_is_the_servers_once_both_have_closed(
    conversation: Conversation, gap: int
) -> None:
    conversation.ask()
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    again = Peer(seq=advance(conversation.peer.seq, gap), ack=0, port=conversation.peer.port)
    conversation.peer = again
    assert conversation.hear(again.send(flags=Flags.SYN)) == ()
    assert conversation.verdict is Verdict.PASS
    assert conversation.engine.deadline() is None


@pytest.mark.parametrize("gap", [0, 5000, 1 << 30])
def test_a_syn_may_be_forged_so_the_peer_that_means_it_resets_us_first(conversation: Conversation, gap: int) -> None:
    conversation.ask()
    syn = conversation.peer.segment(flags=Flags.SYN, seq=advance(conversation.peer.seq, gap), ack=0)
    (acknowledgment,) = conversation.hear(syn)
    assert (acknowledgment.flags, acknowledgment.ack) == (Flags.ACK, conversation.peer.seq)
    verdicts = [conversation.verdict]
    conversation.hear(conversation.peer.segment(flags=Flags.RST, seq=acknowledgment.ack, ack=0))
    assert conversation.hear(syn) == ()
    assert [*verdicts, conversation.verdict] == [Verdict.DROP, Verdict.PASS]


def test_a_takeover_goes_on_after_a_forged_syn(conversation: Conversation) -> None:
    conversation.ask()
    conversation.hear(conversation.peer.segment(flags=Flags.SYN, seq=advance(conversation.peer.seq, 77), ack=0))
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    assert conversation.event == Acknowledged(conversation.peer.segment().connection)
    assert conversation.engine.settled()


def test_an_answer_that_is_never_acknowledged_is_given_up_after_a_few_tries(conversation: Conversation) -> None:
    (answer,) = conversation.ask()
    sent_again: list[Segment] = []
    while conversation.now < 100 + LIFETIME:
        deadline = conversation.engine.deadline()
        assert deadline is not None
        again = conversation.wait(deadline - conversation.now)
        assert conversation.now < 110 or not again
        sent_again += again
    assert 3 <= len(sent_again) <= 5
    assert all(answer.payload.startswith(each.payload) for each in sent_again)
    assert conversation.engine.deadline() is None


def test_a_peer_that_asks_again_and_again_is_not_sent_more_than_it_sends(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    conversation.ask()
    answers = [conversation.hear(asked) for _ in range(1000)]
    assert all(len(each) == 1 for each in answers)
    assert sum(bool(each.payload) for (each,) in answers) == MAX_REPEATS


def test_what_is_sent_again_is_counted_anew_after_each_acknowledgment(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    (answer,) = conversation.ask()
    for arrived in (10, 20):
        conversation.hear(conversation.peer.segment(ack=advance(answer.seq, arrived)))
        answers = [conversation.hear(asked) for _ in range(2 * MAX_REPEATS)]
        assert sum(bool(each.payload) for (each,) in answers) == MAX_REPEATS
        sent_again = [conversation.wait(1) for _ in range(15)]
        assert sum(map(len, sent_again)) == MAX_TIMEOUTS


def test_an_answer_that_the_peer_has_asked_for_again_is_not_sent_again_soon(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    conversation.ask()
    conversation.wait(FIRST_TIMEOUT * 0.9)
    (again,) = conversation.hear(asked)
    assert again.payload
    assert conversation.wait(FIRST_TIMEOUT * 0.9) == ()
    assert len(conversation.wait(FIRST_TIMEOUT * 0.2)) == 1


def test_an_answer_that_was_given_up_is_sent_again_only_as_often_as_the_peer_asks(conversation: Conversation) -> None:
    asked = conversation.peer.segment(request(), PSH_ACK)
    conversation.ask()
    given_up = sum(len(conversation.wait(1)) for _ in range(15))
    assert given_up == MAX_TIMEOUTS
    (again,) = conversation.hear(asked)
    assert again.payload
    assert [conversation.wait(1) for _ in range(40)] == [()] * 40


def test_a_takeover_that_the_peer_contradicts_was_a_strangers(conversation: Conversation) -> None:
    """Where the server's numbers cannot be proven, as its socket is elsewhere."""
    conversation.ask()
    verdicts = []
    for ahead in (-(1 << 20), 1 << 20):  # not far enough: an old segment, and one after what was lost
        conversation.hear(conversation.peer.segment(b"x", seq=advance(conversation.peer.seq, ahead)))
        verdicts.append(conversation.verdict)
    visitor = Peer(seq=advance(conversation.peer.seq, (1 << 20) + 1), ack=77, port=conversation.peer.port)
    for flags in (Flags.RST, RST_ACK, Flags.SYN | Flags.ACK, Flags.PSH):  # which may be forged
        conversation.hear(visitor.segment(flags=flags))
        verdicts.append(conversation.verdict)
    assert conversation.hear(visitor.send(b"GET / HTTP/1.1\r\n\r\n", PSH_ACK)) == ()
    assert [*verdicts, conversation.verdict] == [Verdict.DROP] * 6 + [Verdict.PASS]
    assert conversation.engine.deadline() is None


@pytest.mark.parametrize("before", [1, 1 + len(request())])
def test_the_connections_own_syn_that_comes_late_changes_nothing(conversation: Conversation, before: int) -> None:
    conversation.ask()
    late = conversation.peer.segment(flags=Flags.SYN, seq=advance(conversation.peer.seq, -before), ack=0)
    (acknowledgment,) = conversation.hear(late)
    assert (acknowledgment.flags, acknowledgment.ack) == (Flags.ACK, conversation.peer.seq)
    assert conversation.verdict is Verdict.DROP
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    assert conversation.engine.settled()


@pytest.mark.parametrize("gap", [1, 5000, 1 << 29])
def test_a_request_on_a_later_connection_from_the_same_port_is_answered(conversation: Conversation, gap: int) -> None:
    """Its SYN was not queued: conntrack had begun a new connection, which had no mark yet."""
    conversation.ask()
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    conversation.peer = Peer(seq=advance(conversation.peer.seq, gap), ack=99_000, port=conversation.peer.port)
    conversation.ask()
    assert conversation.verdict is Verdict.REPLACE
    assert conversation.peer.body == KEY_AUTHORIZATION


def test_other_requests_on_a_later_connection_from_the_same_port_pass(conversation: Conversation) -> None:
    conversation.ask()
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    conversation.peer = Peer(seq=advance(conversation.peer.seq, 4000), ack=99_000, port=conversation.peer.port)
    assert conversation.hear(conversation.peer.send(request("unknown"), PSH_ACK)) == ()
    assert conversation.verdict is Verdict.PASS


def test_what_acknowledges_more_than_was_sent_is_answered_with_the_right_numbers(conversation: Conversation) -> None:
    conversation.ask()
    (acknowledgment,) = conversation.hear(conversation.peer.segment(ack=advance(conversation.peer.ack, 1000)))
    assert (acknowledgment.seq, acknowledgment.ack) == (conversation.peer.ack, conversation.peer.seq)
    assert not conversation.engine.settled()


def test_a_keepalive_probe_is_acknowledged(conversation: Conversation) -> None:
    conversation.ask()
    conversation.hear(conversation.peer.send())
    (acknowledgment,) = conversation.hear(conversation.peer.segment(seq=advance(conversation.peer.seq, -1)))
    assert acknowledgment.ack == conversation.peer.seq


def test_a_keepalive_probe_does_not_have_the_answer_sent_again(conversation: Conversation) -> None:
    before = conversation.peer.ack
    conversation.ask()
    probe = conversation.peer.segment(seq=advance(conversation.peer.seq, -1), ack=before)
    (acknowledgment,) = conversation.hear(probe)
    assert acknowledgment.payload == b""


def test_what_follows_the_request_is_acknowledged_and_ignored(conversation: Conversation) -> None:
    conversation.ask()
    (acknowledgment,) = conversation.hear(conversation.peer.send(b"GET /second HTTP/1.1\r\n\r\n"))
    assert acknowledgment.ack == conversation.peer.seq
    assert conversation.peer.body == KEY_AUTHORIZATION


def test_a_segment_without_ack_is_dropped_in_silence(conversation: Conversation) -> None:
    conversation.ask()
    assert conversation.hear(conversation.peer.segment(b"x", flags=Flags.PSH)) == ()
    assert conversation.verdict is Verdict.DROP


def test_a_connection_that_never_closes_is_given_up(conversation: Conversation) -> None:
    conversation.ask()
    conversation.hear(conversation.peer.send())
    conversation.wait(LIFETIME - 1)
    assert conversation.engine.deadline() is not None
    conversation.wait(1)
    assert conversation.engine.deadline() is None
    conversation.hear(conversation.peer.send(flags=FIN_ACK))
    assert conversation.verdict is Verdict.PASS


def test_a_peer_that_goes_on_sending_is_given_up_at_the_same_time(conversation: Conversation) -> None:
    conversation.ask()
    for _ in range(int(LIFETIME)):
        conversation.hear(conversation.peer.send(b"x"))
        assert conversation.verdict is Verdict.DROP
        conversation.wait(1)
    assert conversation.engine.deadline() is None


class TestTimestamps:
    @pytest.fixture
    def conversation(self) -> Conversation:
        return Conversation(Peer(timestamps=Timestamps(value=2**32 - 5, echo=2**32 - 20)))

    def test_every_segment_carries_them_and_continues_the_servers_clock(self, conversation: Conversation) -> None:
        (answer,) = conversation.ask()
        assert answer.timestamps == Timestamps(value=2**32 - 20, echo=2**32 - 5)
        (again,) = conversation.wait(5)
        assert again.timestamps == Timestamps(value=4980, echo=2**32 - 5)

    def test_after_pieces_they_are_ahead_of_what_the_server_may_have_sent_since(
        self, conversation: Conversation
    ) -> None:
        conversation.hear(conversation.peer.send(request()[:40], PSH_ACK))
        (answer,) = conversation.hear(conversation.peer.send(request()[40:], PSH_ACK))
        assert answer.timestamps == Timestamps(value=LEAD - 20, echo=2**32 - 5)
        (again,) = conversation.wait(5)
        assert again.timestamps == Timestamps(value=LEAD + 4980, echo=2**32 - 5)

    def test_the_latest_value_in_order_is_echoed(self, conversation: Conversation) -> None:
        conversation.ask()
        conversation.peer.timestamps = Timestamps(value=7, echo=2**32 - 20)
        (acknowledgment,) = conversation.hear(conversation.peer.send(flags=FIN_ACK))
        assert acknowledgment.timestamps is not None
        assert acknowledgment.timestamps.echo == 7
        old = conversation.peer.segment(seq=advance(conversation.peer.seq, -1), timestamps=Timestamps(6, 0))
        (acknowledgment,) = conversation.hear(old)
        assert acknowledgment.timestamps is not None
        assert acknowledgment.timestamps.echo == 7

    def test_what_comes_behind_a_gap_is_not_echoed(self, conversation: Conversation) -> None:
        """RFC 7323, 4.3: else the peer would take the time that the missing segment needs for the way's."""
        conversation.ask()
        early = conversation.peer.segment(b"x", seq=advance(conversation.peer.seq, 1), timestamps=Timestamps(9, 0))
        (acknowledgment,) = conversation.hear(early)
        assert acknowledgment.timestamps is not None
        assert acknowledgment.timestamps.echo == 2**32 - 5

    def test_what_comes_again_is_echoed_with_its_later_value(self, conversation: Conversation) -> None:
        """RFC 7323, 4.3: our acknowledgment of it was lost; that of its repetition says how long the way takes now."""
        asked = conversation.peer.segment(request(), PSH_ACK, timestamps=Timestamps(8, 0))
        conversation.ask()
        (answer,) = conversation.hear(asked)
        assert answer.timestamps is not None
        assert answer.timestamps.echo == 8

    @pytest.mark.parametrize(
        ("flags", "beyond"),
        [(Flags.SYN, 0), (Flags.PSH, 0), (Flags.RST, 0), (RST_ACK, 0), (Flags.ACK, 1)],
        ids=["SYN", "no ACK", "RST", "RST+ACK", "acknowledges what was never sent"],
    )
    def test_the_time_of_what_is_not_taken_is_not_echoed(
        self, conversation: Conversation, flags: Flags, beyond: int
    ) -> None:
        conversation.ask()
        peer = conversation.peer
        seq, ack = advance(peer.seq, -1), advance(peer.ack, beyond)
        conversation.hear(peer.segment(flags=flags, seq=seq, ack=ack, timestamps=Timestamps(9, 0)))
        (acknowledgment,) = conversation.hear(peer.send(flags=FIN_ACK))
        assert acknowledgment.timestamps is not None
        assert acknowledgment.timestamps.echo == 2**32 - 5

    def test_our_clock_is_not_moved_by_what_the_peer_echoes(self, conversation: Conversation) -> None:
        conversation.ask()
        conversation.hear(conversation.peer.send(timestamps=Timestamps(2**32 - 5, 77)))
        (acknowledgment,) = conversation.hear(conversation.peer.send(flags=FIN_ACK, timestamps=None))
        assert acknowledgment.timestamps == Timestamps(value=2**32 - 20, echo=2**32 - 5)

    def test_a_segment_without_them_changes_nothing(self, conversation: Conversation) -> None:
        conversation.ask()
        (acknowledgment,) = conversation.hear(conversation.peer.send(flags=FIN_ACK, timestamps=None))
        assert acknowledgment.timestamps is not None
        assert acknowledgment.timestamps.echo == 2**32 - 5

    def test_a_peer_without_them_gets_none(self, conversation: Conversation) -> None:
        conversation.peer.timestamps = None
        (answer,) = conversation.ask()
        assert answer.timestamps is None
        (acknowledgment,) = conversation.hear(conversation.peer.send(flags=FIN_ACK, timestamps=Timestamps(9, 0)))
        assert acknowledgment.timestamps is None


class TestWindow:
    def test_a_closed_window_is_probed_until_it_opens(self, conversation: Conversation) -> None:
        peer = conversation.peer
        (acknowledgment,) = conversation.hear(peer.send(request(), PSH_ACK, window=0))
        assert acknowledgment.payload == b""
        (probe,) = conversation.wait(FIRST_TIMEOUT)
        assert len(probe.payload) == 1
        conversation.hear(peer.send(window=0))
        assert [len(segment.payload) for segment in conversation.wait(FIRST_TIMEOUT)] == [1]
        conversation.hear(peer.send(window=500))
        assert peer.body == KEY_AUTHORIZATION
        assert peer.saw_fin

    def test_a_window_that_opens_without_a_new_acknowledgment_is_heeded(self, conversation: Conversation) -> None:
        conversation.hear(conversation.peer.send(request(), PSH_ACK, window=0))
        (answer,) = conversation.hear(conversation.peer.segment(window=500))
        assert answer.payload

    def test_the_window_of_an_old_segment_does_not_count(self, conversation: Conversation) -> None:
        (answer,) = conversation.ask()
        old = conversation.peer.segment(ack=answer.seq, window=0)
        conversation.hear(conversation.peer.segment(ack=advance(answer.seq, 10)))
        conversation.hear(old)
        (again,) = conversation.wait(FIRST_TIMEOUT)
        assert again.payload == answer.payload[10:]

    def test_a_request_that_comes_again_gets_the_same_answer_whatever_its_window(
        self, conversation: Conversation
    ) -> None:
        asked = conversation.peer.segment(request(), PSH_ACK, window=50)
        assert conversation.hear(asked) == conversation.hear(asked)

    def test_a_tiny_window_is_kept_to_if_the_whole_answer_was_refused(self, conversation: Conversation) -> None:
        class TinyPeer(Peer):
            """Throws away what is larger than its window, as Linux does since 6.12."""

            def take(self, *segments: Segment) -> None:
                super().take(*(segment for segment in segments if len(segment.payload) <= 50))

        conversation.peer = peer = TinyPeer()
        (whole,) = conversation.hear(peer.send(request(), PSH_ACK, window=50))
        assert len(whole.payload) > 50
        assert peer.received == b""
        for _ in range(30):
            conversation.wait(FIRST_TIMEOUT)
            conversation.hear(peer.segment(window=50))
        assert peer.body == KEY_AUTHORIZATION
        assert peer.saw_fin

    def test_every_second_time_that_the_answer_is_sent_again_it_keeps_to_the_window(
        self, conversation: Conversation
    ) -> None:
        (whole,) = conversation.hear(conversation.peer.segment(request(), PSH_ACK, window=50))
        lengths = [len(whole.payload)]
        while len(lengths) < 6:
            lengths += [len(segment.payload) for segment in conversation.wait(FIRST_TIMEOUT)]
        assert lengths == [lengths[0], lengths[0], 50, lengths[0], 50, lengths[0]]

    def test_a_window_that_the_answer_just_fills_has_no_room_for_the_fin(self, conversation: Conversation) -> None:
        (whole,) = conversation.ask()
        conversation.hear(conversation.peer.segment(ack=whole.seq, window=len(whole.payload)))
        again = [conversation.wait(FIRST_TIMEOUT), conversation.wait(2 * FIRST_TIMEOUT)]
        assert [segment.flags for (segment,) in again] == [Flags.PSH | FIN_ACK, PSH_ACK]
