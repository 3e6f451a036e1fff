"""Lengths and flags to the byte and to the bit."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from certbot_standalone_nfq.challenges.dns01 import response
from certbot_standalone_nfq.challenges.dns01.query import Query, parse
from tests.challenges.dns01 import messages
from tests.challenges.dns01.messages import VALUE

LONGEST = 255
AROUND_IT = 2 + 2 + 2 + 4 + 2 + 1
"""Bytes of a record beside its value, whose name is a pointer: RFC 1035, 4.1.3 and 3.3."""


def parsed(message: bytes) -> Query:
    query = parse(message)
    assert query is not None
    return query


def values(query: Query, length: int) -> list[bytes]:
    """Return values that make a response as long as is asked for."""
    left = length - len(response.write(query, (), length))
    count = -(-left // (AROUND_IT + LONGEST))
    sizes = [LONGEST] * (count - 1)
    return [bytes(size) for size in (*sizes, left - AROUND_IT * count - sum(sizes))]


@pytest.mark.parametrize(("edns", "longest"), [(None, 512), (511, 512), (513, 513), (1231, 1231), (1233, 1232)])
def test_a_response_over_udp_is_whole_if_the_client_takes_as_much_and_networks_do(
    edns: int | None, longest: int
) -> None:
    query = parsed(messages.query(edns=edns))
    limit = response.limit_over_udp(query)
    assert len(response.write(query, values(query, longest), limit)) == longest
    assert not response.has_values(response.write(query, values(query, longest + 1), limit))


def test_a_response_over_tcp_is_as_long_as_two_bytes_can_say() -> None:
    query = parsed(messages.query())
    assert len(response.write(query, values(query, 0xFFFF), response.OVER_TCP)) == 0xFFFF
    assert not response.has_values(response.write(query, values(query, 0x10000), response.OVER_TCP))


def test_no_flag_but_those_that_are_meant_is_set() -> None:
    """RFC 1035, 4.1.1; RFC 4035, 3.2.2."""
    message = bytearray(messages.query())
    message[2:4] = b"\x07\xff"
    query = parsed(bytes(message))
    copied = dns.flags.QR | dns.flags.RD | dns.flags.CD
    answers = {
        response.write(query, [VALUE.encode()], 512): copied | dns.flags.AA,
        response.write(query, [VALUE.encode()], 50): copied | dns.flags.AA | dns.flags.TC,
        response.without_records(query): copied | dns.flags.AA,
        response.refusal(query): copied | dns.rcode.REFUSED,
    }
    assert {answer: int.from_bytes(answer[2:4], "big") for answer in answers} == answers


@pytest.mark.parametrize("other", [b"", b"abc", bytes(8)])
def test_a_cookie_behind_another_option_is_returned(other: bytes) -> None:
    cookie = bytes(range(24))
    asked = dns.message.make_query(messages.NAME, "TXT")
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, other)
    asked.use_edns(0, 0, 1232, options=[padding, dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)])
    answer = dns.message.from_wire(response.write(parsed(asked.to_wire()), [VALUE.encode()], 512))
    assert [(int(option.otype), option.to_wire()) for option in answer.options] == [(10, cookie)]


def test_a_cookie_that_is_cut_is_none() -> None:
    """By an OPT record that says that it is shorter."""
    message = bytearray(messages.with_cookie(bytes(range(24))))
    assert message[-30:-28] == (4 + 24).to_bytes(2, "big")
    message[-30:-28] = (4 + 20).to_bytes(2, "big")
    edns = parsed(bytes(message)).edns
    assert edns is not None
    assert edns.cookie == b""
