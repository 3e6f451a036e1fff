"""The program is run by the kernel, as the filter of a Unix socket: there, too, it is given octets and a length."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from certbot_standalone_nfq.capture.bpf.selector import MAX_INSTRUCTIONS, bytecode
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX
from tests.wire.proxies import PROXY_HEADERS

_SO_ATTACH_FILTER = 26
Matches = Callable[[bytes], bool]


def attached(program: str) -> tuple[socket.socket, socket.socket]:
    count, *lines = program.split(",")
    instructions = b"".join(struct.pack("=HBBI", *map(int, line.split())) for line in lines)
    buffer = ctypes.create_string_buffer(instructions)
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", int(count), ctypes.addressof(buffer)))
    return sender, receiver


@pytest.fixture(scope="module")
def matchers() -> Iterator[dict[int, Matches]]:
    sockets = {family: attached(bytecode(family)) for family in (4, 6)}

    def matcher(sender: socket.socket, receiver: socket.socket) -> Matches:
        def matches(packet: bytes) -> bool:
            sender.send(packet)
            try:
                receiver.recv(1)
            except BlockingIOError:
                return False
            return True

        return matches

    yield {family: matcher(*pair) for family, pair in sockets.items()}
    for pair in sockets.values():
        for each in pair:
            each.close()


def packet(family: int, payload: bytes, tcp_options: bytes = b"", ip_options: bytes = b"") -> bytes:
    tcp = TCP(dport=80, dataofs=5 + len(tcp_options) // 4)
    if family == 6:
        return bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / tcp / (tcp_options + payload))
    return bytes(IP(src="192.0.2.1", dst="192.0.2.2", options=ip_options) / tcp / (tcp_options + payload))


def expected(payload: bytes) -> bool:
    """Tell what the module's docstring promises, and nft's rules keep to: whole words, or up to three octets."""
    compared = len(payload) if len(payload) < 4 else min(len(payload) // 4 * 4, len(REQUEST_PREFIX))
    return bool(payload) and payload[:compared] == REQUEST_PREFIX[:compared]


@pytest.mark.parametrize("family", [4, 6])
def test_the_program_fits_xt_bpf(family: int) -> None:
    assert int(bytecode(family).split(",")[0]) <= MAX_INSTRUCTIONS


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tcp_options", [b"", bytes(4), bytes(12), bytes(40)], ids=len)
def test_every_beginning_of_a_request_matches(matchers: dict[int, Matches], family: int, tcp_options: bytes) -> None:
    request = REQUEST_PREFIX + b"token HTTP/1.1\r\n\r\n"
    for length in range(1, len(request) + 1):
        assert matchers[family](packet(family, request[:length], tcp_options)), length


@pytest.mark.parametrize("family", [4, 6])
def test_a_request_with_one_octet_other_does_not_match(matchers: dict[int, Matches], family: int) -> None:
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


@given(data=st.data(), family=st.sampled_from([4, 6]))
def test_any_payload_is_judged_as_documented(matchers: dict[int, Matches], data: st.DataObject, family: int) -> None:
    beginning = REQUEST_PREFIX[: data.draw(st.integers(0, len(REQUEST_PREFIX)))]
    payload = beginning + data.draw(st.binary(max_size=40))
    assert matchers[family](packet(family, payload)) == expected(payload)


@given(octets=st.binary(max_size=100), family=st.sampled_from([4, 6]))
def test_no_octets_trouble_the_program(matchers: dict[int, Matches], octets: bytes, family: int) -> None:
    assert matchers[family](octets) in (True, False)
