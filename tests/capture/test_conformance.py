"""What holds for every compiler of selectors: wherever `Selector.matches` is true, what it compiled is true.

The programs are run by an interpreter and by the kernel, nft's rules by an evaluator of their text, which is compared
with the real kernel for a sample of selectors. The same sample is captured by each backend.

How much may be selected beyond that is bounded, too: at most the last three bytes of a payload that ends within the
selector are not compared, and a PROXY header is found whatever follows it. So of http-01's bystanders nothing is
selected, unless it is the beginning of what may become a challenge request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import select
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from certbot_standalone_nfq.capture import choice, tap
from certbot_standalone_nfq.capture.bpf.assembler import Assembled, assemble
from certbot_standalone_nfq.capture.bpf.selector import CannotCompile, bytecode
from certbot_standalone_nfq.capture.ebpf.selection import CannotCompile as EbpfCannotCompile
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId
from certbot_standalone_nfq.capture.nftables import rules as nftables_rules
from certbot_standalone_nfq.capture.nftables import selector as nftables_selector
from certbot_standalone_nfq.capture.nftables.program import Session
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.capture.protocols import Capture
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.engine.protocols import SEARCHED, Field, Selector
from certbot_standalone_nfq.engine.verdicts import Verdict
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.settings import Settings
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING
from certbot_standalone_nfq.wire.tcp import write
from lab.ebpf import Bench, bench
from lab.hosts import Host, kernel_can
from lab.interceptor import VARIANTS
from tests.capture.bpf.interpreter import KernelFilter, execute, kernel_filter, parse
from tests.capture.nftables.evaluator import finds
from tests.capture.nftables.test_backend import PAYLOADS
from tests.engine.peer import Peer
from tests.wire.proxies import PROXY_HEADERS

Matches = Callable[[Selector, bytes], bool]

(HTTP01,) = Http01Solver.selectors(80)
SAMPLES = {
    "http-01": HTTP01,
    "with a gap": Selector(80, ((Field(0, b"\x16\x03"), Field(5, b"\x01"), Field(9, b"\x03\x03")),)),
    "masked": Selector(
        80,
        (
            (
                Field(4, bytes(4), b"\xf8\x40\xff\xff"),
                Field(12, b"\x0f_ACME-challenge", b"\xff\xff" + b"\xdf" * 4 + b"\xff" + b"\xdf" * 9),
            ),
        ),
        after_proxy_header=False,
    ),
    "alike": Selector(80, ((Field(0, b"PUT /a"),), (Field(0, b"POX"),))),
    "longer than a load": Selector(80, ((Field(3, bytes(range(40))),),)),
    "any payload": Selector(80, ((Field(0, b"x", b"\0"),),), after_proxy_header=False),
    "searched": Selector(80, ((Field(0, b"\x16\x03"), Field(5, b"\x01")),), contains=b"\0\x0d\0\x0b\x0aacme-tls/1"),
    "searched, short": Selector(80, ((Field(0, b"\x16"),), (Field(0, b"\x17"),)), False, contains=b"ab"),
}
NFT_SEARCHES = kernel_can("nft", "add table t; add chain t c; add rule t c @th,2400,8 0")
BYSTANDERS = [
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET /.well-known/acme-challenges HTTP/1.1\r\n\r\n",
    b"GET /.well-known/security.txt HTTP/1.1\r\n\r\n",
    b"HEAD /.well-known/acme-challenge/token HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"",
]


def segment(payload: bytes, options: bytes = b"") -> bytes:
    return bytes(TCP(sport=40000, dport=80, flags="PA", dataofs=5 + len(options) // 4)) + options + payload


def packet(family: int, payload: bytes) -> bytes:
    header = IPv6(src="2001:db8::1", dst="2001:db8::2", nh=6) if family == 6 else IP(src="192.0.2.1", proto=6)
    return bytes(header / segment(payload))


def agrees_whole(selector: Selector, payload: bytes) -> bool:
    """Whether all fields of an alternative are there and agree, without a PROXY header."""
    return any(
        all(field.agrees_with(payload) and len(payload) >= field.offset + len(field.value) for field in alternative)
        for alternative in selector.any_of
    )


def has_part(selector: Selector, payload: bytes, size: int) -> bool:
    """Whether a payload has a part of so many bytes, at most, of what a selector searches for."""
    wanted, size = selector.contains, min(size, len(selector.contains))
    return any(wanted[begin : begin + size] in payload for begin in range(len(wanted) - size + 1))


def by_nft(selector: Selector, payload: Payload, segment_: bytes) -> bool:
    chains = dict(nftables_selector.chains([selector], payload))
    return finds(chains, nftables_selector.rules([selector], payload), segment_)


def by_xt_bpf(selector: Selector, payload: bytes, family: int, kernel: KernelFilter) -> bool:
    """Do as the rule does, which has iptables' own match for what a selector searches for."""
    return selector.contains in payload and accepts(parse(bytecode(selector, family)), packet(family, payload), kernel)


def by_ebpf(loaded: Bench, payload: bytes, family: int) -> bool:
    """Whether a payload is taken, or its connection watched, on a connection of its own."""
    ends = ("2001:db8::1", "2001:db8::2") if family == 6 else ("192.0.2.1", "192.0.2.2")
    peer = Peer(0, 0, *ends, port=next(loaded.ports))
    sent = peer.segment(payload)
    loaded.open_connection(sent)
    outcome = loaded.send(write(sent))
    return bool(outcome.taken) or outcome.watched


def accepts(program: list[Assembled], packet_: bytes, kernel: KernelFilter) -> bool:
    kernel.attach(program)
    accepted = bool(execute(program, packet_)[0])
    assert kernel.accepts(packet_) == accepted
    return accepted


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelFilter]:
    with kernel_filter() as opened:
        yield opened


@st.composite
def fields(draw: st.DrawFn) -> Field:
    value = draw(st.binary(min_size=1, max_size=9))
    mask = draw(st.one_of(st.just(b""), st.binary(min_size=len(value), max_size=len(value))))
    return Field(draw(st.integers(0, 24)), value, mask)


@st.composite
def selectors(draw: st.DrawFn) -> Selector:
    alternatives = st.lists(fields(), min_size=1, max_size=3).map(tuple)
    any_of = draw(st.lists(alternatives, min_size=1, max_size=3).map(tuple))
    contains = draw(st.one_of(st.just(b""), st.binary(max_size=20)))
    return Selector(80, any_of, after_proxy_header=draw(st.booleans()), contains=contains)


@st.composite
def payloads(draw: st.DrawFn, selector: Selector) -> bytes:
    """Draw anything, or what agrees with a selector, cut anywhere, with a byte changed, behind a PROXY header."""
    content = bytearray(draw(st.binary(max_size=50)))
    for field in draw(st.sampled_from(selector.any_of)) if draw(st.integers(0, 5)) else ():
        content.extend(bytes(max(0, field.offset + len(field.value) - len(content))))
        mask = field.mask or b"\xff" * len(field.value)
        for place, (byte, bits) in enumerate(zip(field.value, mask), field.offset):
            content[place] = content[place] & ~bits | byte & bits
    if content and not draw(st.integers(0, 3)):
        content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    if selector.contains and draw(st.integers(0, 3)):
        end = draw(st.sampled_from([0, 1, 7, 8, 50, SEARCHED - len(selector.contains), SEARCHED]))
        content.extend(bytes(max(0, end - len(content))) + selector.contains)
    rest = bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)
    header = draw(st.sampled_from([b"", b"", *PROXY_HEADERS.values(), b"PROXY \r\n", BINARY_SIGNATURE + b"!!\xff\xff"]))
    return header[: draw(st.integers(0, len(header)))] + rest if not draw(st.integers(0, 5)) else header + rest


def is_bounded(selector: Selector, payload: bytes, options: bytes = b"") -> bool:
    """Whether selecting a payload is what the compilers may do: see above.

    nft's rules may find what they search for in TCP's options, too, which are before the payload.
    """
    if selector.contains:
        begins = dataclasses.replace(selector, contains=b"")
        return has_part(selector, options + payload, 8) and is_bounded(begins, payload)
    proxied = selector.after_proxy_header and payload.startswith((TEXT_BEGINNING[:4], BINARY_SIGNATURE))
    return proxied or len(payload) < 4 or any(selector.matches(payload[: len(payload) - cut]) for cut in range(4))


@pytest.mark.anywhere
@given(data=st.data(), selector=selectors())
def test_whatever_matches_is_selected_by_xt_bpf_and_little_else(
    data: st.DataObject, selector: Selector, kernel: KernelFilter
) -> None:
    payload = data.draw(payloads(selector))
    try:
        selected = [by_xt_bpf(selector, payload, family, kernel) for family in (4, 6)]
    except CannotCompile:
        assume(False)
    assert selected[0] == selected[1]
    assert selected[0] >= selector.matches(payload)
    assert selected[0] <= is_bounded(selector, payload)


@pytest.mark.anywhere
@settings(max_examples=30)  # each loads a program
@given(data=st.data(), selector=selectors())
def test_whatever_matches_is_selected_by_ebpf_and_nothing_else(data: st.DataObject, selector: Selector) -> None:
    try:
        with bench([selector]) as loaded:
            for payload in data.draw(st.lists(payloads(selector), min_size=20, max_size=20)):
                selected = {by_ebpf(loaded, payload, family) for family in (4, 6)}
                assert selected == {selector.matches(payload)}
    except EbpfCannotCompile:
        assume(False)


@pytest.mark.anywhere
@given(data=st.data(), selector=selectors(), options=st.integers(0, 10))
def test_whatever_matches_is_selected_by_nft_and_little_else(
    data: st.DataObject, selector: Selector, options: int
) -> None:
    payload = data.draw(payloads(selector))
    whole = segment(payload, bytes(4 * options))
    for way in Payload:
        selected = by_nft(selector, way, whole)
        assert selected >= selector.matches(payload)
        assert selected <= is_bounded(selector, payload, bytes(4 * options))


@pytest.mark.anywhere
@given(data=st.data(), selector=selectors())
def test_whatever_matches_whole_is_shown_by_the_tap_and_nothing_else(
    data: st.DataObject, selector: Selector, kernel: KernelFilter
) -> None:
    """A beginning that is cut says nothing of a validation, and is not worth the instructions to find it.

    For what a payload must have besides, see tests/capture/bpf/test_extensions.py.
    """
    selector = dataclasses.replace(selector, contains=b"")
    payload = data.draw(payloads(selector))
    shown = accepts(assemble(tap.program([selector], replies=False)), packet(4, payload), kernel)
    assert shown >= agrees_whole(selector, payload)
    assert shown <= any(all(f.agrees_with(payload) for f in alternative) for alternative in selector.any_of)


@pytest.mark.anywhere
@pytest.mark.parametrize("selector", SAMPLES.values(), ids=SAMPLES)
@given(data=st.data())
def test_the_samples_are_selected_wherever_they_match(
    data: st.DataObject, selector: Selector, kernel: KernelFilter
) -> None:
    payload = data.draw(payloads(selector))
    selected = [by_xt_bpf(selector, payload, family, kernel) for family in (4, 6)]
    selected += [by_nft(selector, way, segment(payload)) for way in Payload]
    assert all(selected) >= selector.matches(payload)
    assert any(selected) <= is_bounded(selector, payload)


@pytest.mark.parametrize("name", [name for name, each in SAMPLES.items() if not each.contains])
def test_the_samples_are_selected_by_ebpf_wherever_they_match(name: str) -> None:
    selector = dataclasses.replace(SAMPLES[name], key=None)
    with bench([selector]) as loaded:
        for payload in tried(selector):
            selected = {by_ebpf(loaded, payload, family) for family in (4, 6)}
            assert selected == {selector.matches(payload)}, payload


def test_of_http01s_bystanders_nothing_is_selected(kernel: KernelFilter) -> None:
    for payload in BYSTANDERS:
        assert not any(by_xt_bpf(HTTP01, payload, family, kernel) for family in (4, 6)), payload
        assert not any(by_nft(HTTP01, way, segment(payload)) for way in Payload), payload
        assert not accepts(assemble(tap.program([HTTP01], replies=False)), packet(4, payload), kernel), payload


def tried(selector: Selector) -> Iterator[bytes]:
    """Yield payloads of a sample's: each alternative cut everywhere, with a byte changed, behind headers."""
    for alternative in selector.any_of:
        content = bytearray(b"\xa5" * max(field.offset + len(field.value) for field in alternative))
        for field in alternative:
            content[field.offset : field.offset + len(field.value)] = field.value
        for length in range(1, len(content) + 1):
            yield bytes(content[:length])
        for place in range(len(content)):
            yield bytes(content[:place]) + bytes([content[place] ^ 0x21]) + bytes(content[place + 1 :])
        yield from (header + bytes(content[:9]) for header in PROXY_HEADERS.values())
        yield from searchable(bytes(content), selector.contains)
    yield from (header + b"GET /" for header in PROXY_HEADERS.values())
    yield b"unlike all of them"


def searchable(content: bytes, wanted: bytes) -> Iterator[bytes]:
    """Yield payloads that have what is searched for, behind so much else, whole and cut, with and without headers."""
    for gap in (*range(9), SEARCHED - len(content) - len(wanted), SEARCHED - len(content)) if wanted else ():
        yield content + bytes(gap) + wanted
        yield content + bytes(gap) + wanted[:-1]
    yield from (header + content + wanted for header in PROXY_HEADERS.values() if wanted)


def as_nft_selects(selector: Selector) -> Selector:
    """Return what rules of nft for a selector select: what begins right, where this kernel cannot search."""
    return selector if NFT_SEARCHES else dataclasses.replace(selector, contains=b"")


@pytest.mark.parametrize("way", PAYLOADS)
@pytest.mark.parametrize("selector", [as_nft_selects(each) for each in SAMPLES.values()], ids=SAMPLES)
def test_the_kernel_does_with_nfts_rules_what_the_evaluator_says(
    lonely_host: Host, selector: Selector, way: Payload
) -> None:
    allocation = Allocation((selector,), RunId(28080, "0f1e"), Marks(1, 2))
    commands = nftables_rules.install_commands(allocation, way, owned=False)
    table = nftables_rules.table_name(allocation.run_id)
    sent: dict[int, bytes] = {}
    with lonely_host.inside(), socket.create_server(("127.0.0.1", 80)) as listener:
        session = Session(shutil.which("nft", path="/usr/sbin:/sbin") or "nft", ())
        session.run([command.replace("queue num 28080 bypass", "counter") for command in commands])
        for payload in dict.fromkeys(tried(selector)):
            sent[send(listener, payload)] = payload
        session.close()
        listed = lonely_host.run("nft", "list", "set", "inet", table, "four")
    found = {int(port) for port in re.findall(r"127\.0\.0\.1 \. (\d+) \. 127\.0\.0\.1", listed)}
    # Segments of the kernel's have twelve bytes of options, for timestamps.
    assert {sent[port] for port in found} == {
        payload for payload in sent.values() if by_nft(selector, way, segment(payload, bytes(12)))
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("selector", SAMPLES.values(), ids=SAMPLES)
def test_whatever_matches_is_captured_and_little_else(lonely_host: Host, selector: Selector, variant: str) -> None:
    payloads_ = set(tried(selector))
    if variant == "nftables":
        selector = as_nft_selects(selector)  # tests/capture/nftables/test_short_sight.py is about what becomes of one
    with contextlib.ExitStack() as opened:
        opened.enter_context(lonely_host.inside())
        capture = choice.open_capture(Settings(capture=variant), [selector], Snapshot(), contextlib.ExitStack())
        opened.callback(capture.close)
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 80)))
        captured = {payload for payload in payloads_ if is_captured(capture, listener, payload)}
    assert captured >= {payload for payload in payloads_ if selector.matches(payload)}
    assert captured <= {payload for payload in payloads_ if is_bounded(selector, payload)}


def is_captured(capture: Capture[Any], listener: socket.socket, payload: bytes) -> bool:
    """Send a payload as one segment over a connection of its own; let it pass if it is captured."""
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(payload)
        accepted, _ = listener.accept()
        with accepted:
            readable: list[Any] = [capture, accepted]
            select.select(readable, [], [], 10)
            packets = capture.receive()
            for packet in packets:
                capture.decide(packet, Verdict.PASS)
            assert accepted.recv(len(payload), socket.MSG_WAITALL) == payload
    return bool(packets)


def send(listener: socket.socket, payload: bytes) -> int:
    """Send a payload as one segment over a connection of its own; return the client's port."""
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(payload)
        accepted, (_, port) = listener.accept()
        with accepted:
            assert accepted.recv(len(payload), socket.MSG_WAITALL) == payload
    return int(port)


@pytest.mark.anywhere
def test_http01_takes_no_more_instructions_of_the_tap_than_it_always_did() -> None:
    assert len(assemble(tap.program([HTTP01], replies=False))) <= 49
    assert len(assemble(tap.program([HTTP01], replies=True))) <= 56


def rule_counts(selector: Selector) -> Mapping[Payload, int]:
    chains = {way: dict(nftables_selector.chains([selector], way)) for way in Payload}
    return {
        way: sum(map(len, found.values())) + len(nftables_selector.rules([selector], way))
        for way, found in chains.items()
    }


@pytest.mark.anywhere
def test_http01_takes_no_more_rules_of_nft_than_it_always_did() -> None:
    counts = rule_counts(HTTP01)
    assert counts[Payload.INNER_HEADER] <= 24
    assert counts[Payload.TRANSPORT_HEADER] <= 265


@pytest.mark.anywhere
def test_http01s_rules_of_nft_read_as_designed() -> None:
    chains = dict(nftables_selector.chains([HTTP01], Payload.INNER_HEADER))
    assert nftables_selector.rules([HTTP01], Payload.INNER_HEADER) == [
        "@ih,0,8 0x47 goto compare",
        "@ih,0,96 0x0d0a0d0a000d0a515549540a goto found",
        "@ih,0,48 0x50524f585920 goto found",
    ]
    assert chains["compare"][:3] == [
        f"@ih,0,128 0x{REQUEST_PREFIX[:16].hex()} @ih,128,128 0x{REQUEST_PREFIX[16:].hex()} goto found",
        "@ih,248,8 >= 0 return",
        f"@ih,0,128 0x{REQUEST_PREFIX[:16].hex()} @ih,128,96 0x{REQUEST_PREFIX[16:28].hex()} goto found",
    ]
    assert chains["compare"][-2:] == ["@ih,8,8 >= 0 return", "@ih,0,8 0x47 goto found"]
