"""What is particular to the program: see tests/capture/test_conformance.py for what holds of every compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from certbot_standalone_nfq.capture.bpf.assembler import Code, Instruction, assemble
from certbot_standalone_nfq.capture.bpf.selector import MAX_INSTRUCTIONS, CannotCompile, bytecode
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.engine.protocols import Field, Selector
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE
from tests.capture.bpf.interpreter import kernel_filter, parse
from tests.wire.proxies import PROXY_HEADERS

Matches = Callable[[bytes], bool]

(HTTP01,) = Http01Solver.selectors(80)
# What the program was when it was written by hand, for IPv4; IPv6 differs in where TCP begins.
AS_EVER = (
    "80 0 0 12,84 0 0 240,116 0 0 2,12 0 0 0,7 0 0 0,128 0 0 0,28 0 0 0,53 0 13 16,64 0 0 0,"
    "21 47 0 1347571544,21 0 8 218762506,64 0 0 4,21 0 45 854609,64 0 0 8,21 0 43 1430869002,72 0 0 14,"
    "4 0 0 16,12 0 0 0,7 0 0 0,128 0 0 0,28 0 0 0,53 18 0 32,53 19 0 28,53 20 0 24,53 21 0 20,53 22 0 16,"
    "53 23 0 12,53 24 0 8,53 25 0 4,21 3 0 3,21 4 0 2,21 5 0 1,6 0 0 0,80 0 0 2,21 0 23 84,80 0 0 1,"
    "21 0 21 69,80 0 0 0,21 0 19 71,6 0 0 1,64 0 0 28,21 0 16 1852269871,64 0 0 24,21 0 14 1634495589,"
    "64 0 0 20,21 0 12 1697473384,64 0 0 16,21 0 10 794911597,64 0 0 12,21 0 8 1852798830,64 0 0 8,"
    "21 0 6 1819028843,64 0 0 4,21 0 4 791574373,64 0 0 0,21 0 2 1195725856,6 0 0 1,6 0 0 1,6 0 0 0"
)
BEGINNINGS_AS_EVER = {4: "60,177 0 0 0,", 6: "62,48 0 0 6,21 0 59 6,1 0 0 40,"}


@pytest.fixture(scope="module")
def matchers() -> Iterator[dict[int, Matches]]:
    with kernel_filter() as ipv4, kernel_filter() as ipv6:
        ipv4.attach(parse(bytecode(HTTP01, 4)))
        ipv6.attach(parse(bytecode(HTTP01, 6)))
        yield {4: ipv4.accepts, 6: ipv6.accepts}


def packet(family: int, payload: bytes, tcp_options: bytes = b"", ip_options: bytes = b"") -> bytes:
    tcp = TCP(dport=80, dataofs=5 + len(tcp_options) // 4)
    if family == 6:
        return bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / tcp / (tcp_options + payload))
    return bytes(IP(src="192.0.2.1", dst="192.0.2.2", options=ip_options) / tcp / (tcp_options + payload))


def expected(payload: bytes) -> bool:
    """Whether the module's docstring says to select it, as nft's rules do: whole words, or up to three bytes."""
    compared = len(payload) if len(payload) < 4 else min(len(payload) // 4 * 4, len(REQUEST_PREFIX))
    return bool(payload) and payload[:compared] == REQUEST_PREFIX[:compared]


@pytest.mark.parametrize("family", [4, 6])
def test_http01s_program_is_what_it_was_when_it_was_written_by_hand(family: int) -> None:
    assert bytecode(HTTP01, family) == BEGINNINGS_AS_EVER[family] + AS_EVER


def test_a_selector_that_xt_bpf_has_no_room_for_is_refused() -> None:
    half = (Field(0, b"xy", b"\xf0\xf0"),)
    largest = Selector(80, ((Field(0, b"abcd"),), *((Field(0, b"x"),),) * 3, half), after_proxy_header=False)
    assert len(parse(bytecode(largest, 6))) == MAX_INSTRUCTIONS
    too_large = Selector(80, (*largest.any_of, half), after_proxy_header=False)
    with pytest.raises(CannotCompile, match="takes 77 instructions; xt_bpf runs 64 at most"):
        bytecode(too_large, 6)


@pytest.mark.parametrize(
    "field", [Field(0, BINARY_SIGNATURE), Field(0, b"\r\n\r"), Field(4, b"x"), Field(2, b"x", b"\0")]
)
def test_a_selector_that_may_be_taken_for_a_binary_proxy_header_is_refused(field: Field) -> None:
    with pytest.raises(CannotCompile, match="must differ from a binary PROXY header within the first four bytes"):
        bytecode(Selector(80, ((field,),)), 4)
    assert bytecode(Selector(80, ((field,),), after_proxy_header=False), 4)


def test_a_jump_that_is_too_long_is_an_error() -> None:
    between = [Instruction(Code.LD_LEN)] * 256
    with pytest.raises(ValueError, match="instruction 0 cannot jump by 256 to 'far'"):
        assemble([Instruction(Code.JEQ, 0, "far"), *between, "far", Instruction(Code.RET)])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tcp_options", [b"", bytes(4), bytes(12), bytes(40)], ids=len)
def test_every_beginning_of_a_request_matches(matchers: dict[int, Matches], family: int, tcp_options: bytes) -> None:
    request = REQUEST_PREFIX + b"token HTTP/1.1\r\n\r\n"
    for length in range(1, len(request) + 1):
        assert matchers[family](packet(family, request[:length], tcp_options)), length


@pytest.mark.parametrize("family", [4, 6])
def test_a_request_with_another_byte_does_not_match(matchers: dict[int, Matches], family: int) -> None:
    for place in range(len(REQUEST_PREFIX)):
        damaged = bytearray(REQUEST_PREFIX + b"token HTTP/1.1\r\n\r\n")
        damaged[place] ^= 0x20
        assert not matchers[family](packet(family, bytes(damaged))), place


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_a_request_behind_a_proxys_header_matches_and_another_one_only_if_the_header_is_text(
    matchers: dict[int, Matches], family: int, name: str
) -> None:
    header, is_text = PROXY_HEADERS[name], name.startswith("text")
    for length in range(1, len(REQUEST_PREFIX) + 1):
        assert matchers[family](packet(family, header + REQUEST_PREFIX[:length])), length
    for following in (b"GET / HTTP/1.1\r\n\r\n", b"", REQUEST_PREFIX.replace(b"acme", b"acmf")):
        if len(header + following) >= 16:
            assert matchers[family](packet(family, header + following)) == is_text, following
    assert not matchers[family](packet(family, header[:-1])) or is_text


@pytest.mark.parametrize("family", [4, 6])
def test_a_segment_without_payload_does_not_match(matchers: dict[int, Matches], family: int) -> None:
    assert not matchers[family](packet(family, b""))


@pytest.mark.parametrize("ip_options", [b"", b"\x94\x04\x00\x00", b"\x01" * 40], ids=len)
def test_ip_options_are_skipped(matchers: dict[int, Matches], ip_options: bytes) -> None:
    assert matchers[4](packet(4, REQUEST_PREFIX, ip_options=ip_options))
    assert not matchers[4](packet(4, b"POST /", ip_options=ip_options))


def test_ipv6_extension_headers_do_not_match(matchers: dict[int, Matches]) -> None:
    assert not matchers[6](bytes(IPv6() / IPv6ExtHdrDestOpt() / TCP(dport=80) / REQUEST_PREFIX))


@pytest.mark.anywhere
@given(data=st.data(), family=st.sampled_from([4, 6]))
def test_any_payload_is_judged_as_documented(matchers: dict[int, Matches], data: st.DataObject, family: int) -> None:
    beginning = REQUEST_PREFIX[: data.draw(st.integers(0, len(REQUEST_PREFIX)))]
    payload = beginning + data.draw(st.binary(max_size=40))
    assert matchers[family](packet(family, payload)) == expected(payload)


@pytest.mark.anywhere
@given(octets=st.binary(max_size=100), family=st.sampled_from([4, 6]))
def test_no_octets_trouble_the_program(matchers: dict[int, Matches], octets: bytes, family: int) -> None:
    assert matchers[family](octets) in (True, False)
