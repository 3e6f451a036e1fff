"""What the program at egress remembers: SYN-ACKs of the port, so that their clients' first requests can be told."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from certbot_standalone_nfq.capture.ebpf.code import NEXT
from certbot_standalone_nfq.capture.ebpf.layout import FIRST_HANDSHAKE_AT, HANDSHAKE, SEQUENCE_AT
from certbot_standalone_nfq.capture.ebpf.maps import PLACE_BITS
from certbot_standalone_nfq.capture.ebpf.records import TakenPacket
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment, write
from lab.ebpf import Bench, bench, framed, run
from tests.engine.peer import TOKEN, request

pytestmark = pytest.mark.root
SYN_ACK = Flags.SYN | Flags.ACK
ENDS = {"IPv4": ("192.0.2.80", "192.0.2.1"), "IPv6": ("2001:db8::80", "2001:db8::1")}
LINKS = [14, 0]
ROUTER = bytes.fromhex("020000000001 020000000002")
MANY = 60_000
"""Several times as many SYN-ACKs as there is room for."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[Bench]:
    with bench(Http01Solver.selectors(80)) as made:
        made.expect(f"{TOKEN} HTTP/1.".encode())
        yield made


@pytest.fixture(params=ENDS)
def answer(loaded: Bench, request: pytest.FixtureRequest) -> Segment:
    server, client = ENDS[request.param]
    return Segment(server, 80, client, next(loaded.ports), 0xFFFFFFFF, 0x80000001, SYN_ACK, 100)


def leave(loaded: Bench, sent: Segment, link_header: int = 14, packet: bytes = b"") -> None:
    """Have a packet leave to a router."""
    frame = ROUTER + framed(packet or write(sent))[12:]
    ran = run(loaded.programs.egress(link_header), frame)
    assert (ran.verdict, ran.frame) == (NEXT, frame)


def ask(loaded: Bench, answer: Segment, **changes: int) -> list[TakenPacket]:
    """Send a request as it follows a SYN-ACK, or with other numbers; return what is taken of it."""
    sent = Segment(
        source=answer.destination,
        source_port=answer.destination_port,
        destination=answer.source,
        destination_port=80,
        seq=answer.ack,
        ack=answer.seq + 1 & 0xFFFFFFFF,
        flags=Flags.PSH | Flags.ACK,
        window=100,
        payload=request(),
    )
    taken = loaded.send(write(replace(sent, **changes))).taken  # type: ignore[arg-type]
    for packet in taken:
        loaded.maps.taken.discard(packet.connection)
    return taken


@pytest.mark.parametrize("link_header", LINKS)
def test_the_first_request_is_told_by_its_numbers(loaded: Bench, answer: Segment, link_header: int) -> None:
    leave(loaded, answer, link_header)
    assert not ask(loaded, answer, seq=answer.ack + 1)
    assert not ask(loaded, answer, ack=1)
    assert ask(loaded, answer)


def test_so_it_is_with_ip_options(loaded: Bench) -> None:
    answer = Segment("192.0.2.80", 80, "192.0.2.1", next(loaded.ports), 1, 2, SYN_ACK, 100)
    plain = write(answer)
    packet = bytes([0x46]) + plain[1:2] + (len(plain) + 4).to_bytes(2, "big") + plain[4:20] + b"\x01" * 4 + plain[20:]
    leave(loaded, answer, 14, packet)
    assert ask(loaded, answer)


@pytest.mark.parametrize(("link_header", "header"), [(14, ROUTER), (0, b"")])
def test_how_the_connections_syn_ack_left_is_told_with_its_request(
    loaded: Bench, answer: Segment, link_header: int, header: bytes
) -> None:
    leave(loaded, answer, link_header)
    (taken,) = ask(loaded, answer)
    assert taken.left_by
    assert taken.left_behind[:12] == header
    assert bool(taken.left_behind) == bool(header)


@pytest.mark.parametrize("flags", [Flags.ACK, Flags.SYN, Flags.RST | Flags.ACK, Flags.PSH | Flags.ACK], ids=str)
@pytest.mark.parametrize("link_header", LINKS)
def test_nothing_else_is_remembered(loaded: Bench, answer: Segment, flags: Flags, link_header: int) -> None:
    leave(loaded, replace(answer, flags=flags), link_header)
    leave(loaded, replace(answer, source_port=81), link_header)
    leave(loaded, replace(answer, destination_port=answer.destination_port + 1000), link_header)
    assert not ask(loaded, answer)


def test_of_two_connections_between_the_same_ends_the_last_counts(loaded: Bench, answer: Segment) -> None:
    later = replace(answer, seq=1000, ack=2000)
    for each in (answer, later):
        leave(loaded, each)
    assert not ask(loaded, answer)
    assert ask(loaded, later)


def test_a_flood_displaces_what_came_before_it_and_mixes_up_nothing(loaded: Bench) -> None:
    before = Segment("192.0.2.80", 80, "192.0.2.1", next(loaded.ports), 5, 6, SYN_ACK, 100)
    leave(loaded, before)
    flood = [
        replace(
            before,
            destination=f"198.51.{number >> 14}.{number >> 7 & 127}",
            destination_port=1024 + number % 128,
            seq=number,
            ack=number + 1,
        )
        for number in range(MANY)
    ]
    for each in flood:
        leave(loaded, each)
    assert not ask(loaded, before)
    assert all(ask(loaded, each) for each in flood[-500:])
    for one, other in zip(flood[-500:], flood[-499:]):
        assert not ask(loaded, one, seq=other.ack, ack=other.seq + 1)


def handshakes(loaded: Bench) -> dict[tuple[bytes, int], bytes]:
    """Return all that are remembered, by the key of their place and where in it they are."""
    places = [struct.pack("=I", number) for number in range(1 << PLACE_BITS)]
    values = {key: loaded.maps.handshakes.get(key) or b"" for key in places}
    ends = range(FIRST_HANDSHAKE_AT, len(values[places[0]]), HANDSHAKE.size)
    found = {(key, at): value[at : at + HANDSHAKE.size] for key, value in values.items() for at in ends}
    return {where: content for where, content in found.items() if any(content)}


def test_what_two_processors_mixed_up_is_nobodys(answer: Segment) -> None:
    one, other = answer, replace(answer, destination_port=answer.destination_port + 1000, seq=1000, ack=2000)
    with bench(Http01Solver.selectors(80)) as loaded:
        loaded.expect(f"{TOKEN} HTTP/1.".encode())
        for each in (one, other):
            leave(loaded, each)
        there = handshakes(loaded)
        assert len(there) == 2
        for (key, at), whole in there.items():
            (rest,) = (content[SEQUENCE_AT:] for content in there.values() if content != whole)
            place = loaded.maps.handshakes.get(key) or b""
            mixed = place[: at + SEQUENCE_AT] + rest + place[at + HANDSHAKE.size :]
            loaded.maps.handshakes[key] = mixed
        for first, second in ((one, other), (other, one)):
            assert not ask(loaded, first)
            assert not ask(loaded, first, seq=second.ack, ack=second.seq + 1 & 0xFFFFFFFF)
