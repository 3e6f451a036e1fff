"""What the program at ingress does with packets, run by the kernel on frames of ours."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from certbot_standalone_nfq.capture.ebpf.code import DROP, NEXT
from certbot_standalone_nfq.capture.ebpf.layout import CONTROL, SMALL, Kind
from certbot_standalone_nfq.capture.ebpf.maps import RING_BYTES
from certbot_standalone_nfq.challenges.http01.solver import ENOUGH, REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, is_intact, locate, parse, write
from lab.ebpf import Bench, Outcome, bench, framed, key_of, run
from tests.engine.peer import TOKEN, Peer, request
from tests.wire.proxies import PROXY_HEADERS

pytestmark = pytest.mark.root
PENDING = f"{TOKEN} HTTP/1.".encode()
PSH_ACK = Flags.PSH | Flags.ACK
DECISIVE = len(REQUEST_PREFIX) + ENOUGH
LINKS = [14, 0]
FAMILIES = {"IPv4": Peer(), "IPv6": Peer(address="2001:db8::1", server="2001:db8::80")}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Bench]:
    with bench(Http01Solver.selectors(80)) as made:
        made.expect(PENDING)
        yield made


@pytest.fixture(params=FAMILIES)
def peer(request: pytest.FixtureRequest) -> Peer:
    return replace(FAMILIES[request.param], timestamps=Timestamps(7, 8))


ports = itertools.count(1024)


def client(peer: Peer) -> Peer:
    """Return a client with a connection of its own."""
    return replace(peer, port=next(ports))


def passes(outcome: Outcome, packet: bytes) -> bool:
    return outcome.verdict == NEXT and outcome.packet == packet and not outcome.taken


@pytest.mark.parametrize("link_header", LINKS)
def test_of_a_request_a_reset_goes_on_and_we_get_the_request(loaded: Bench, peer: Peer, link_header: int) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    outcome = loaded.send(write(sent), link_header)
    (taken,) = outcome.taken
    assert (taken.kind, taken.payload, taken.length) == (Kind.TAKEN, write(sent), len(write(sent)))
    assert outcome.verdict == NEXT
    goes_on = parse(outcome.packet)
    assert (goes_on.connection, goes_on.seq, goes_on.payload) == (sent.connection, sent.seq, b"")
    assert goes_on.flags == Flags.RST | Flags.ACK
    assert is_intact(outcome.packet, locate(outcome.packet))
    assert len(outcome.packet) == (40 if len(outcome.packet) < 60 else 60)


def test_a_reset_has_a_right_ipv4_checksum_whatever_options_there_are(loaded: Bench) -> None:
    sent = client(Peer()).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    plain = write(sent)
    packet = bytes(
        IP(src=sent.source, dst=sent.destination, options=b"\x94\x04\0\0" + b"\x01" * 8, proto=6) / plain[20:]
    )
    outcome = loaded.send(packet)
    assert outcome.taken[0].payload == packet
    again = IP(outcome.packet)
    del again.chksum
    assert bytes(again) == outcome.packet
    assert again[TCP].flags == "RA"
    assert len(outcome.packet) == 52


@pytest.mark.parametrize("length", [*range(1, len(request()) + 1, 7), *range(DECISIVE - 2, DECISIVE + 3)])
def test_a_request_is_taken_once_enough_of_it_is_there(loaded: Bench, peer: Peer, length: int) -> None:
    sent = client(peer).segment(request()[:length], PSH_ACK)
    loaded.open_connection(sent)
    outcome = loaded.send(write(sent))
    assert bool(outcome.taken) == (length >= DECISIVE)
    assert outcome.watched == (length < DECISIVE)
    assert passes(outcome, write(sent)) == (length < DECISIVE)


@pytest.mark.parametrize(
    "cuts", [(1,), (31,), (32,), (33,), (42,), (10, 20, 30), (5, 43), (40, 41), (41, 90), (3, 100)]
)
def test_pieces_pass_until_they_are_enough_and_we_get_all_of_them(
    loaded: Bench, peer: Peer, cuts: tuple[int, ...]
) -> None:
    sender, whole = client(peer), request()
    ends = [*cuts, len(whole)]
    loaded.open_connection(sender.segment())
    for begin, end in zip([0, *ends], ends):
        sent = sender.send(whole[begin:end], PSH_ACK)
        outcome = loaded.send(write(sent))
        if end >= DECISIVE:
            break
        assert passes(outcome, write(sent))
    before, last = outcome.taken
    assert last.payload == write(sent)
    assert parse(before.payload).payload + sent.payload == whole[:end]
    assert parse(before.payload).seq == peer.seq
    assert parse(outcome.packet).flags == Flags.RST | Flags.ACK
    assert parse(outcome.packet).seq == sent.seq


@pytest.mark.parametrize(
    "rest",
    [b"? HTTP/1.1\r\n\r\n", b"x HTTP/1.1\r\n\r\n", b" HTTP/2\r\n\r\n", b"/ HTTP/1.1\r\n\r\n"],
)
@pytest.mark.parametrize("cut", [0, 20])
def test_what_only_begins_like_a_request_for_the_token_is_the_servers(
    loaded: Bench, peer: Peer, rest: bytes, cut: int
) -> None:
    sender, whole = client(peer), REQUEST_PREFIX + TOKEN.encode() + rest
    loaded.open_connection(sender.segment())
    for part in [whole[:cut], whole[cut:]] if cut else [whole]:
        packet = write(sender.send(part, PSH_ACK))
        assert passes(loaded.send(packet), packet)


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_a_request_behind_a_proxy_header_is_taken_whole_and_in_pieces(loaded: Bench, peer: Peer, name: str) -> None:
    header = PROXY_HEADERS[name]
    sent = client(peer).segment(header + request(), PSH_ACK)
    loaded.open_connection(sent)
    assert loaded.send(write(sent)).taken[0].payload == write(sent)
    sender = client(peer)
    loaded.open_connection(sender.segment())
    first = sender.send(header + request()[:20], PSH_ACK)
    assert passes(loaded.send(write(first)), write(first))
    before, _ = loaded.send(write(sender.send(request()[20:], PSH_ACK))).taken
    assert parse(before.payload).payload == request()[:20]
    assert parse(before.payload).seq == first.seq + len(header)


@pytest.mark.parametrize(
    "header",
    [b"PROXY ", b"PROXY " + b"x" * 120 + b"\r\n", b"PROXI TCP4 1 2 3 4\r\n", b"\r\n\r\n\0\r\nQUIT\n!!\xff\xff"],
)
def test_what_only_looks_like_a_proxy_header_passes(loaded: Bench, peer: Peer, header: bytes) -> None:
    sent = client(peer).segment(header + request(), PSH_ACK)
    loaded.open_connection(sent)
    assert passes(loaded.send(write(sent)), write(sent))


@pytest.mark.parametrize("changes", [{"seq": 1001}, {"seq": 999}, {"ack": 5001}, {"source_port": 9}])
def test_a_request_with_numbers_that_no_connection_has_passes(
    loaded: Bench, peer: Peer, changes: dict[str, int]
) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    forged = write(replace(sent, **changes))  # type: ignore[arg-type]
    assert passes(loaded.send(forged), forged)


@pytest.mark.parametrize(
    "flags", [Flags.SYN, Flags.SYN | Flags.ACK, Flags.RST, Flags.RST | Flags.ACK, Flags(0), Flags.FIN], ids=str
)
def test_only_what_can_carry_a_request_is_one(loaded: Bench, peer: Peer, flags: Flags) -> None:
    sent = client(peer).segment(request(), flags)
    loaded.open_connection(sent)
    assert passes(loaded.send(write(sent)), write(sent))


def test_all_that_follows_on_a_taken_connection_is_ours(loaded: Bench, peer: Peer) -> None:
    sender = client(peer)
    loaded.open_connection(sender.segment())
    first = sender.send(request(), PSH_ACK)
    loaded.send(write(first))
    for segment in (sender.send(b"more", PSH_ACK), first, sender.segment(), sender.segment(flags=Flags.SYN)):
        outcome = loaded.send(write(segment))
        assert outcome.verdict == DROP
        assert [(each.kind, each.payload) for each in outcome.taken] == [(Kind.MORE, write(segment))]


def test_our_own_reset_passes_further_devices(loaded: Bench, peer: Peer) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    reset = loaded.send(write(sent)).packet
    assert passes(loaded.send(reset), reset)


def test_a_connection_that_is_let_go_is_the_servers_again(loaded: Bench, peer: Peer) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    (taken,) = loaded.send(write(sent)).taken
    assert loaded.maps.taken.discard(taken.connection)
    syn = write(replace(sent, flags=Flags.SYN, payload=b"", seq=77))
    assert passes(loaded.send(syn), syn)


def test_with_nothing_pending_requests_pass(loaded: Bench, peer: Peer) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    loaded.expect()
    try:
        assert passes(loaded.send(write(sent)), write(sent))
    finally:
        loaded.expect(PENDING)
    assert loaded.send(write(sent)).taken


def test_two_tokens_that_begin_alike_are_told_apart_by_the_engine(loaded: Bench, peer: Peer) -> None:
    other = TOKEN[:ENOUGH] + "x" * 32
    loaded.expect(PENDING, f"{other} HTTP/1.".encode())
    try:
        for token in (TOKEN, other):
            sent = client(peer).segment(request(token), PSH_ACK)
            loaded.open_connection(sent)
            assert loaded.send(write(sent)).taken
    finally:
        loaded.expect(PENDING)


def test_where_the_ring_has_no_room_requests_are_the_servers_and_it_is_counted(peer: Peer) -> None:
    with bench(Http01Solver.selectors(80)) as full:
        full.expect(PENDING)
        first, second = (client(peer).segment(request(), PSH_ACK) for _ in range(2))
        for each in (first, second):
            full.open_connection(each)
        full.send(write(first))
        repeated = run(full.programs.ingress(14), framed(write(first)), repeat=RING_BYTES // SMALL)
        assert repeated.verdict == DROP
        ran = run(full.programs.ingress(14), framed(write(second)))
        assert (ran.verdict, ran.frame) == (NEXT, framed(write(second)))
        assert full.maps.taken.get(key_of(write(second))) is None
        *_, lost = CONTROL.unpack(full.maps.control.get(bytes(4)) or b"")
        assert lost > 1


def with_tcp(packet: bytes, offset: int, value: bytes) -> bytes:
    begin = 20 if packet[0] >> 4 == 4 else 40
    return packet[: begin + offset] + value + packet[begin + offset + len(value) :]


@pytest.mark.parametrize("words", [0, 4])
def test_a_tcp_header_that_is_too_short_passes(loaded: Bench, peer: Peer, words: int) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    packet = with_tcp(write(sent), 12, bytes([words << 4]))
    assert passes(loaded.send(packet), packet)


def test_fragments_and_extension_headers_pass(loaded: Bench) -> None:
    sent = client(FAMILIES["IPv4"]).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    for fragment in (0x2000, 0x0001):
        packet = bytearray(write(sent))
        struct.pack_into("!H", packet, 6, fragment)
        assert passes(loaded.send(bytes(packet)), bytes(packet))
    sent = client(FAMILIES["IPv6"]).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    packet = bytearray(
        bytes(IPv6(src=sent.source, dst=sent.destination) / IPv6ExtHdrDestOpt() / b"") + write(sent)[40:]
    )
    packet[40] = 6
    assert passes(loaded.send(bytes(packet)), bytes(packet))


def test_a_header_of_another_version_than_the_links_header_says_passes(loaded: Bench, peer: Peer) -> None:
    sent = client(peer).segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    packet = bytes([write(sent)[0] & 0x0F | 0x10]) + write(sent)[1:]
    frame = framed(write(sent))[:14] + packet
    ran = run(loaded.programs.ingress(14), frame)
    assert (ran.verdict, ran.frame) == (NEXT, frame)


def test_other_ports_pass(loaded: Bench, peer: Peer) -> None:
    sent = replace(client(peer).segment(request(), PSH_ACK), destination_port=81)
    loaded.open_connection(sent)
    assert passes(loaded.send(write(sent)), write(sent))


segments = st.builds(
    Segment,
    source=st.just("192.0.2.1"),
    source_port=st.just(40000),
    destination=st.just("192.0.2.80"),
    destination_port=st.just(80),
    seq=st.integers(0, (1 << 32) - 1),
    ack=st.integers(0, (1 << 32) - 1),
    flags=st.just(PSH_ACK),
    window=st.integers(0, 0xFFFF),
    payload=st.just(request()),
)


@given(sent=segments)
def test_checksums_of_resets_are_right_for_all_numbers(loaded: Bench, sent: Segment) -> None:
    loaded.maps.taken.discard(key_of(write(sent)))
    loaded.open_connection(sent)
    outcome = loaded.send(write(sent))
    assert is_intact(outcome.packet, locate(outcome.packet))
    assert parse(outcome.packet).seq == sent.seq


@given(sent=segments)
def test_a_checksum_is_verified_here_unless_the_kernel_has_done_so_or_is_still_to_complete_it(
    loaded: Bench, sent: Segment
) -> None:
    """Of packets of this machine, and of those that the kernel has merged, it is the pseudo-header's sum."""
    key = key_of(write(sent))
    pseudo = write(sent)[12:20] + struct.pack("!HH", 6, len(write(sent)) - 20)
    total = sum(struct.unpack("!6H", pseudo))
    for checksum, verified in ((total % 0xFFFF or 0xFFFF, True), (total % 0xFFFF ^ 0x1234, False)):
        loaded.maps.taken.discard(key)
        loaded.open_connection(sent)
        (taken,) = loaded.send(with_tcp(write(sent), 16, checksum.to_bytes(2, "big"))).taken
        assert taken.verified == verified


def test_a_later_connection_between_the_same_ports_is_the_servers_at_once(loaded: Bench, peer: Peer) -> None:
    sender = client(peer)
    sent = sender.segment(request(), PSH_ACK)
    loaded.open_connection(sent)
    assert loaded.send(write(sent)).taken
    own = replace(sent, seq=sent.seq - 1, ack=0, flags=Flags.SYN, payload=b"")
    later = replace(own, seq=sent.seq + 100_000)
    fin = replace(sent, seq=sent.seq + len(sent.payload), flags=Flags.FIN | Flags.ACK, payload=b"")
    for segment in (later, fin, own):
        assert loaded.send(write(segment)).verdict == DROP
    assert passes(loaded.send(write(later)), write(later))
    more = replace(sent, seq=later.seq + 1, payload=b"GET / HTTP/1.1\r\n")
    assert passes(loaded.send(write(more)), write(more))
