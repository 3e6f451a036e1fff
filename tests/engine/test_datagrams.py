"""What becomes of each datagram."""

from __future__ import annotations

import itertools

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.engine.datagrams import MAX_REPLIES_PER_SECOND, DatagramReaction, Datagrams
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.protocols import ChallengeId, Transport
from certbot_standalone_nfq.engine.verdicts import Answered, Verdict
from certbot_standalone_nfq.wire.tcp import Connection
from certbot_standalone_nfq.wire.udp import Datagram, parse, without_effect, write
from tests.challenges.dns01.messages import NAME, VALUE, pending_solver, query, values

ENDS = [("192.0.2.1", 40000, "198.51.100.2", 53), ("2001:db8::1", 40000, "2001:db8::2", 53)]


@pytest.fixture
def datagrams() -> Datagrams:
    return Engine([pending_solver()]).datagrams


@pytest.mark.parametrize("ends", ENDS)
def test_a_pending_challenges_query_is_answered_and_goes_on_without_effect(
    datagrams: Datagrams, ends: tuple[str, int, str, int]
) -> None:
    asked = Datagram(*ends, query(), 7)
    reaction = datagrams.handle(write(asked), 1.0, 7, verified=False)
    assert (reaction.verdict, reaction.replacement) == (Verdict.REPLACE, without_effect(asked))
    assert reaction.event == Answered(ChallengeId("dns-01", NAME), Connection(*ends), transport=Transport.UDP)
    reply = reaction.reply
    assert reply is not None
    assert (reply.destination, reply.destination_port, reply.source, reply.source_port) == ends
    assert reply.interface == 7
    assert values(dns.message.from_wire(parse(write(reply), verified=False).payload)) == {VALUE}


def test_that_the_name_has_no_other_type_is_said_and_is_no_answer_to_a_challenge(datagrams: Datagrams) -> None:
    reaction = datagrams.handle(write(Datagram(*ENDS[0], query(typ="NS"))), 1.0)
    assert (reaction.verdict, reaction.event) == (Verdict.REPLACE, None)
    assert reaction.reply is not None
    assert reaction.reply.interface == 0


@pytest.mark.parametrize("payload", [b"", query("example.com"), query(typ="DS"), query()[:-1]], ids=itertools.count())
def test_everything_else_passes(datagrams: Datagrams, payload: bytes) -> None:
    assert datagrams.handle(write(Datagram(*ENDS[0], payload)), 1.0) == DatagramReaction(Verdict.PASS)
    assert Datagrams([]).handle(write(Datagram(*ENDS[0], query())), 1.0) == DatagramReaction(Verdict.PASS)


def test_a_damaged_query_passes_for_the_kernel_to_discard(datagrams: Datagrams) -> None:
    damaged = bytearray(write(Datagram(*ENDS[0], query())))
    damaged[-30] ^= 0x20  # a letter of the name, in the other case
    assert datagrams.handle(bytes(damaged), 1.0, verified=False) == DatagramReaction(Verdict.PASS)
    assert datagrams.handle(bytes(damaged), 1.0, verified=True).reply
    assert datagrams.handle(bytes(damaged), 1.0).reply


def test_of_a_flood_so_many_a_second_are_answered_and_none_reaches_the_server(datagrams: Datagrams) -> None:
    packet = write(Datagram(*ENDS[0], query()))
    verdicts = [datagrams.handle(packet, 1.0).verdict for _ in range(MAX_REPLIES_PER_SECOND + 5)]
    assert verdicts == [Verdict.REPLACE] * MAX_REPLIES_PER_SECOND + [Verdict.DROP] * 5
    assert datagrams.handle(packet, 2.0).verdict is Verdict.REPLACE
    assert datagrams.handle(write(Datagram(*ENDS[0], query("example.com"))), 1.0).verdict is Verdict.PASS


@given(octets=st.binary(max_size=200), place=st.integers(0, 100), verified=st.booleans())
def test_no_packet_troubles_it_and_each_gets_one_verdict(octets: bytes, place: int, verified: bool) -> None:
    datagrams = Datagrams([pending_solver()])
    packet = write(Datagram(*ENDS[0], query(edns=1232)))
    for each in (octets, packet[:place] + octets[:4] + packet[place + 4 :]):
        reaction = datagrams.handle(each, 1.0, verified=verified)
        assert (reaction.reply is not None) == (reaction.verdict is Verdict.REPLACE)
