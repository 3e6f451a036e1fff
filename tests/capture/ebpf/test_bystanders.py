"""What the program at ingress lets pass at once, while no connection is taken or watched: nothing that may be ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.capture.ebpf.layout import CONTROL
from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import Field, Selector
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Segment, Timestamps, write
from lab.ebpf import Bench, Outcome, bench
from tests.engine.peer import TOKEN, request
from tests.wire.proxies import PROXY_HEADERS

pytestmark = pytest.mark.root
ENDS = {4: ("192.0.2.1", "192.0.2.80"), 6: ("2001:db8::1", "2001:db8::80")}
PADDING = bytes(18)
"""What a frame of Ethernet is filled up with behind a packet that is too short for one."""
MASKED = Selector(80, ((Field(0, b"\x05\xff", b"\x0f\xff"), Field(3, b"xyz")), (Field(1, b"\x80"),)))
SELECTORS = {
    "http-01": Http01Solver.selectors(80),
    "tls-alpn-01": TlsAlpn01Solver.selectors(80),
    "dns-01": Dns01Solver.selectors(80),
    "masked": (MASKED,),
}


@pytest.fixture(scope="module", params=SELECTORS)
def loaded(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(SELECTORS[request.param]) as made:
        made.expect(f"{TOKEN} HTTP/1.".encode(), b"example.com", b"_acme-challenge.example.com")
        yield made


@pytest.fixture(scope="module")
def http01() -> Iterator[Bench]:
    with bench(Http01Solver.selectors(80)) as made:
        made.expect(f"{TOKEN} HTTP/1.".encode())
        yield made


def send(loaded: Bench, packet: Segment, *, at_once: bool) -> Outcome:
    """Have a packet arrive while nothing is taken or watched, or while something may be."""
    loaded.maps.control[bytes(4)] = CONTROL.pack(not at_once, not at_once, 0)
    return loaded.send(write(packet))


def decided(loaded: Bench, packet: Segment, *, at_once: bool) -> tuple[int, bool, bool]:
    """Return what the program does with a packet on a connection of its own."""
    sent = replace(packet, source_port=next(loaded.ports))
    loaded.open_connection(sent)
    outcome = send(loaded, sent, at_once=at_once)
    return outcome.verdict, bool(outcome.taken), outcome.watched


beginnings = st.one_of(
    st.sampled_from(
        [
            b"G",
            b"GE",
            b"GET",
            b"GET ",
            b"GET /.w",
            b"GET /.we",
            b"PRO",
            b"\r\n\r\n",
            b"\x16",
            b"\x16\x03\x01",
            b"\x15\xff\0xyz",
            b"a\x83",
        ]
    ),
    st.sampled_from([request(), request()[:40], *(header + request() for header in PROXY_HEADERS.values())]),
    st.binary(max_size=12),
)


@given(
    beginning=beginnings,
    rest=st.binary(max_size=60),
    flags=st.one_of(st.sampled_from([Flags.ACK, Flags.PSH | Flags.ACK]), st.sampled_from(Flags)),
    family=st.sampled_from(sorted(ENDS)),
    options=st.sampled_from([None, Timestamps(1, 2)]),
)
def test_nothing_passes_at_once_that_would_not_have_passed_later(
    loaded: Bench, beginning: bytes, rest: bytes, flags: Flags, family: int, options: Timestamps | None
) -> None:
    source, destination = ENDS[family]
    sent = Segment(source, 40000, destination, 80, 1000, 5000, flags, 500, beginning + rest, options)
    assert decided(loaded, sent, at_once=True) == decided(loaded, sent, at_once=False)


@pytest.mark.parametrize("family", ENDS)
@pytest.mark.parametrize("length", [1, 3, 7])
def test_a_short_beginning_is_watched_whatever_the_frame_is_filled_up_with(
    http01: Bench, family: int, length: int
) -> None:
    source, destination = ENDS[family]
    sent = Segment(source, next(http01.ports), destination, 80, 1000, 5000, Flags.ACK, 500, request()[:length])
    http01.open_connection(sent)
    http01.maps.control[bytes(4)] = bytes(CONTROL.size)
    assert http01.send(write(sent) + PADDING).watched
