"""What holds for every compiler of selectors over UDP: what it compiled is true exactly where `Selector.matches` is.

A datagram is whole, so nothing is cut that would have to be selected for its beginning. Over TCP, see
`test_conformance.py`.
"""

from __future__ import annotations

import contextlib
import re
import select
import shutil
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from certbot_standalone_nfq.capture import choice, tap
from certbot_standalone_nfq.capture.bpf.assembler import assemble
from certbot_standalone_nfq.capture.bpf.selector import MAX_INSTRUCTIONS, CannotCompile, bytecode
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId
from certbot_standalone_nfq.capture.nftables import rules as nftables_rules
from certbot_standalone_nfq.capture.nftables.program import Session
from certbot_standalone_nfq.capture.nftables.selector import Payload, datagram_rules
from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.engine.protocols import Field, Selector, Transport
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.settings import Settings
from lab.hosts import Host
from lab.interceptor import VARIANTS
from tests.capture.bpf.interpreter import KernelFilter, kernel_filter, parse
from tests.capture.nftables.evaluator import finds
from tests.capture.test_conformance import accepts, fields
from tests.challenges.dns01.messages import NAME, over_tcp, query

TARGET = "d420c923-bbd7-4056-ab64-c3ca54c9b3cf.auth.example.net"
DNS01 = Dns01Solver.selectors(53, [TARGET])
OVER_UDP = [selector for selector in DNS01 if selector.transport is Transport.UDP]
SHAPES = {"dns-01": OVER_UDP[0], "an exact name": OVER_UDP[1]}
BYSTANDERS = [
    query("example.com", edns=1232),
    query("www.example.com", "AAAA"),
    query("_acme-challengf.example.com"),
    query("_dmarc.example.com"),
    query(f"x.{NAME}"),
    query()[:20],
    query()[:2] + b"\x84" + query()[3:],
    over_tcp(query()),
    b"",
]


def datagram(family: int, payload: bytes) -> bytes:
    header = IPv6(src="2001:db8::1", dst="2001:db8::2") if family == 6 else IP(src="192.0.2.1", options=b"\x01" * 4)
    return bytes(header / UDP(sport=40000, dport=53) / payload)


def by_nft(selector: Selector, payload: bytes) -> bool:
    return finds({}, datagram_rules([selector], "goto found"), bytes(UDP(dport=53) / payload))


def by_all(selector: Selector, payload: bytes, kernel: KernelFilter) -> list[bool]:
    """Return what each compiler makes of a payload."""
    shown = assemble(tap.program([selector], replies=False))
    return [
        *(accepts(parse(bytecode(selector, family)), datagram(family, payload), kernel) for family in (4, 6)),
        *(accepts(shown, datagram(family, payload), kernel) for family in (4, 6)),
        by_nft(selector, payload),
    ]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelFilter]:
    with kernel_filter() as opened:
        yield opened


@st.composite
def selectors(draw: st.DrawFn) -> Selector:
    alternatives = st.lists(fields().filter(lambda field: not field.mask or all(field.mask)), min_size=1, max_size=3)
    any_of = draw(st.lists(alternatives.map(tuple), min_size=1, max_size=3).map(tuple))
    return Selector(53, any_of, after_proxy_header=False, transport=Transport.UDP)


@st.composite
def payloads(draw: st.DrawFn, selector: Selector) -> bytes:
    """Draw anything, or what agrees with a selector, cut anywhere, or with a byte changed."""
    content = bytearray(draw(st.binary(max_size=50)))
    for field in draw(st.sampled_from(selector.any_of)) if draw(st.integers(0, 5)) else ():
        content.extend(bytes(max(0, field.offset + len(field.value) - len(content))))
        mask = field.mask or b"\xff" * len(field.value)
        for place, (byte, bits) in enumerate(zip(field.value, mask), field.offset):
            content[place] = content[place] & ~bits | byte & bits
    if content and not draw(st.integers(0, 3)):
        content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    return bytes(content[: draw(st.sampled_from([len(content), len(content), draw(st.integers(0, len(content)))]))])


@pytest.mark.anywhere
@given(data=st.data(), selector=selectors())
def test_exactly_what_matches_is_selected(data: st.DataObject, selector: Selector, kernel: KernelFilter) -> None:
    payload = data.draw(payloads(selector))
    try:
        selected = by_all(selector, payload, kernel)
    except CannotCompile:
        assume(False)
    assert set(selected) == {selector.matches(payload)}


@pytest.mark.anywhere
@pytest.mark.parametrize("selector", SHAPES.values(), ids=SHAPES)
@given(data=st.data())
def test_exactly_the_queries_that_match_are_selected(
    data: st.DataObject, selector: Selector, kernel: KernelFilter
) -> None:
    payload = data.draw(payloads(selector))
    assert set(by_all(selector, payload, kernel)) == {selector.matches(payload)}


def test_of_dns01s_bystanders_nothing_is_selected(kernel: KernelFilter) -> None:
    for payload in BYSTANDERS:
        for selector in OVER_UDP:
            assert not any(by_all(selector, payload, kernel)), payload


@pytest.mark.anywhere
def test_a_program_for_dns01_is_as_short_as_designed() -> None:
    sizes = {(each.transport, family): len(parse(bytecode(each, family))) for each in DNS01[:2] for family in (4, 6)}
    assert sizes[Transport.UDP, 4] <= 20
    assert sizes[Transport.UDP, 6] <= 23
    assert max(sizes.values()) <= MAX_INSTRUCTIONS


def test_a_datagram_has_no_proxy_header() -> None:
    with pytest.raises(ValueError, match="a datagram has no PROXY header"):
        Selector(53, ((Field(0, b"x"),),), transport=Transport.UDP)


@pytest.mark.parametrize("variant", VARIANTS)
def test_exactly_what_matches_is_captured(lonely_host: Host, variant: str) -> None:
    asked = [query(), query(NAME.swapcase(), "NS"), query(TARGET), *BYSTANDERS, query(f"x.{TARGET}")]
    with contextlib.ExitStack() as opened:
        opened.enter_context(lonely_host.inside())
        capture = choice.open_capture(Settings(capture=variant), DNS01, Snapshot(), opened)
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            client = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            server.bind((address, 53))
            for payload in asked:
                client.sendto(payload, (address, 53))
                waiting: list[Any] = [capture, server]
                select.select(waiting, [], [], 10)
                packets = capture.receive()
                for packet in packets:
                    capture.decide(packet, Verdict.PASS)
                assert server.recv(1500) == payload
                assert bool(packets) == any(selector.matches(payload) for selector in OVER_UDP)


@pytest.mark.parametrize("tracked", [True, False])
def test_the_kernel_does_with_nfts_rules_what_the_evaluator_says(lonely_host: Host, tracked: bool) -> None:
    """Each query that is selected is counted, in place of being queued."""
    allocation = Allocation(DNS01, RunId(28080, "0f1e"), Marks(1, 2), tracked=tracked)
    commands = nftables_rules.install_commands(allocation, Payload.TRANSPORT_HEADER, owned=False)
    asked = [query(), query(NAME.swapcase(), "NS"), query(TARGET), *BYSTANDERS, query(f"x.{TARGET}")]
    with lonely_host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        session = Session(shutil.which("nft", path="/usr/sbin:/sbin") or "nft", ())
        session.run([command.replace("queue num 28080 bypass", "counter") for command in commands])
        for payload in asked:
            client.sendto(payload, ("127.0.0.1", 53))
        session.close()
        table = nftables_rules.table_name(allocation.run_id)
        listed = lonely_host.run("nft", "list", "chain", "inet", table, "datagram")
        ruleset = lonely_host.run("nft", "list", "ruleset")
    selected = [payload for payload in asked if any(selector.matches(payload) for selector in OVER_UDP)]
    assert sum(map(int, re.findall(r"counter packets (\d+)", listed))) == len(selected)
    assert ("ct " in ruleset) == tracked
