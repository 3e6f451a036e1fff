"""What the program at egress remembers: SYN-ACKs of the port, as their clients' requests will name the connection."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from certbot_standalone_nfq.capture.ebpf.code import NEXT
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.wire.tcp import Flags, Segment, write
from lab.ebpf import Bench, bench, framed, key_of, run

pytestmark = pytest.mark.root
SYN_ACK = Flags.SYN | Flags.ACK
ENDS = {"IPv4": ("192.0.2.80", "192.0.2.1"), "IPv6": ("2001:db8::80", "2001:db8::1")}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Bench]:
    with bench(Http01Solver.selectors(80)) as made:
        yield made


def remembered(loaded: Bench, sent: Segment, link_header: int, packet: bytes = b"") -> bytes | None:
    """Have a packet leave; return the numbers that are remembered of its connection then."""
    frame = framed(packet or write(sent))
    ran = run(loaded.programs.egress(link_header), frame)
    assert (ran.verdict, ran.frame) == (NEXT, frame)
    client = replace(
        sent,
        source=sent.destination,
        source_port=sent.destination_port,
        destination=sent.source,
        destination_port=sent.source_port,
    )
    found = loaded.maps.handshakes.get(key_of(write(client)))
    return found[:8] if found else None


@pytest.fixture(params=ENDS)
def answer(loaded: Bench, request: pytest.FixtureRequest) -> Segment:
    server, client = ENDS[request.param]
    return Segment(server, 80, client, next(loaded.ports), 0xFFFFFFFF, 0x80000001, SYN_ACK, 100)


@pytest.mark.parametrize("link_header", [14, 0])
def test_the_numbers_of_the_first_request_are_remembered(loaded: Bench, answer: Segment, link_header: int) -> None:
    assert remembered(loaded, answer, link_header) == struct.pack("!II", 0x80000001, 0)


def test_so_they_are_with_ip_options(loaded: Bench) -> None:
    answer = Segment("192.0.2.80", 80, "192.0.2.1", next(loaded.ports), 1, 2, SYN_ACK, 100)
    plain = write(answer)
    packet = bytes([0x46]) + plain[1:2] + struct.pack("!H", len(plain) + 4) + plain[4:20] + b"\x01" * 4 + plain[20:]
    assert remembered(loaded, answer, 14, packet) == struct.pack("!II", 2, 2)


@pytest.mark.parametrize("flags", [Flags.ACK, Flags.SYN, Flags.RST | Flags.ACK, Flags.PSH | Flags.ACK], ids=str)
@pytest.mark.parametrize("link_header", [14, 0])
def test_nothing_else_is(loaded: Bench, answer: Segment, flags: Flags, link_header: int) -> None:
    assert remembered(loaded, replace(answer, flags=flags), link_header) is None
    assert remembered(loaded, replace(answer, source_port=81), link_header) is None
