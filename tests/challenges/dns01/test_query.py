from __future__ import annotations

import itertools
import string
import struct

import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.dns01.query import Edns, Query, Type, parents, parse, to_text, to_wire
from tests.challenges.dns01 import messages
from tests.challenges.dns01.messages import NAME, with_cookie

QUERIES = [
    messages.query(),
    messages.query("a.b", "NS"),
    messages.query(edns=1232, dnssec=True),
    messages.query("x" * 63 + ".example", "DS", edns=512),
    with_cookie(bytes(range(24))),
]


def parsed(message: bytes) -> Query:
    query = parse(message)
    assert query is not None
    return query


@pytest.mark.parametrize("message", QUERIES, ids=itertools.count())
def test_a_query_is_what_dnspython_says_it_is(message: bytes) -> None:
    query, theirs = parsed(message), dns.message.from_wire(message)
    assert (query.id, query.flags, query.typ) == (theirs.id, theirs.flags, theirs.question[0].rdtype)
    assert dns.name.from_wire(query.name, 0)[0] == theirs.question[0].name
    assert query.name == query.name.lower()
    assert query.question == message[12 : 12 + len(query.question)]
    assert (query.edns is not None) == (theirs.edns >= 0)
    if query.edns:
        assert (query.edns.size, query.edns.version) == (theirs.payload, theirs.edns)
        assert query.edns.dnssec_ok == bool(theirs.ednsflags & 0x8000)


def test_of_the_flags_of_edns_one_asks_for_dnssec() -> None:
    """RFC 3225, 3: the first of the two bytes that version and response code are before."""
    message = messages.query(edns=1232)
    for bit in range(16):
        flags = (1 << bit).to_bytes(2, "big")
        edns = parsed(message[:-4] + flags + message[-2:]).edns
        assert edns == Edns(1232, 0, dnssec_ok=bit == 15, cookie=b"")


@pytest.mark.parametrize(
    ("length", "taken"), [(8, False), (15, False), (16, True), (24, True), (40, True), (41, False)]
)
def test_a_cookie_counts_if_it_has_a_part_of_the_servers(length: int, taken: bool) -> None:
    query = parsed(with_cookie(bytes(range(length))))
    assert query.edns is not None
    assert query.edns.cookie == (bytes(range(length)) if taken else b"")


@pytest.mark.parametrize("cut", range(1, len(QUERIES[0])))
def test_a_query_that_is_cut_is_none(cut: int) -> None:
    assert parse(QUERIES[0][:-cut]) is None


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (2, b"\x80"),  # a response
        (2, b"\x28"),  # an update
        (4, b"\0\0"),
        (4, b"\0\2"),
        (6, b"\0\1"),
        (8, b"\0\1"),
        (12, b"\xc0\x0c"),  # a pointer to itself
        (12, b"\x40"),
        (len(QUERIES[0]) - 2, b"\0\3"),  # class CHAOS
    ],
)
def test_what_is_no_plain_query_for_one_name_of_the_internet_is_none(place: int, value: bytes) -> None:
    changed = bytearray(QUERIES[0])
    changed[place : place + len(value)] = value
    assert parse(bytes(changed)) is None


@pytest.mark.parametrize("bit", range(16))
def test_of_the_flags_only_those_count_that_tell_a_query_from_other_messages(bit: int) -> None:
    """RFC 1035, 4.1.1: QR, and the four bits of the opcode."""
    message = bytearray(QUERIES[0])
    message[2:4] = (1 << bit).to_bytes(2, "big")
    assert (parse(bytes(message)) is not None) == (bit < 11)


@pytest.mark.parametrize("name", [b"\xc0\x0c", b"\x40", b"\3com"])
def test_a_query_without_a_whole_name_is_none_whatever_its_header_says(name: bytes) -> None:
    for flags in range(4):
        assert parse(struct.pack("!6H", 16, flags, 1, 0, 0, 0) + name) is None


def test_a_name_that_is_too_long_is_none() -> None:
    header = struct.pack("!6H", 1, 0, 1, 0, 0, 0)
    for labels, whole in ((3, True), (4, False)):
        name = (b"\x3f" + b"x" * 63) * labels + b"\0"
        assert (parse(header + name + b"\0\x10\0\1") is not None) == whole


def test_an_opt_record_behind_others_is_found_and_nothing_behind_it_is_looked_at() -> None:
    plain, opt = messages.query(), b"\0\0\x29\x04\xd0" + bytes(6)
    other = b"\0\0\xfa\0\xff" + bytes(4) + b"\0\3abc"
    for before, found in ((0, True), (2, True), (3, False)):
        records = other * before + opt + b"\xc0\x0c\xff"
        message = plain[:10] + (before + 2).to_bytes(2, "big") + plain[12:] + records
        assert (parsed(message).edns is not None) == found
    for named in (b"\xc0\x0c" + opt, b"\1" + opt[1:]):  # an OPT record's name is the root's: RFC 6891, 6.1.2
        assert parsed(plain[:10] + b"\xff\xff" + plain[12:] + named).edns is None


@given(st.binary(max_size=600))
def test_no_bytes_trouble_the_parser(message: bytes) -> None:
    parse(message)


@given(place=st.integers(0, 200), value=st.binary(max_size=4), message=st.sampled_from(QUERIES))
def test_of_a_damaged_query_is_read_what_dnspython_reads(place: int, value: bytes, message: bytes) -> None:
    damaged = message[:place] + value + message[place + len(value) :]
    query = parse(damaged)
    try:
        theirs = dns.message.from_wire(damaged, ignore_trailing=True, question_only=True)
    except (dns.exception.DNSException, ValueError):  # the latter for what dnspython before 2.4 has no name for
        assert query is None or query.name.count(b"\0")
        return
    if query:
        assert (query.id, query.typ) == (theirs.id, theirs.question[0].rdtype)
        assert dns.name.from_wire(query.name, 0)[0] == theirs.question[0].name


@given(st.lists(st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True), min_size=1, max_size=8))
def test_names_come_back_as_they_went(labels: list[str]) -> None:
    name = ".".join(labels)
    assert to_text(to_wire(name)) == name
    assert to_wire(name.upper() + ".") == dns.name.from_text(name).to_wire()


def test_the_names_above_a_name_are_those_without_its_first_labels() -> None:
    above = [to_wire(name) for name in ("a.0123.example", "0123.example", "example")]
    assert list(parents(above[0])) == above
    assert list(parents(b"\0")) == []


@pytest.mark.parametrize("name", ["x" * 63, ".".join(["x" * 63] * 3 + ["x" * 61])], ids=["label", "name"])
def test_the_longest_names_are_taken(name: str) -> None:
    assert to_wire(name) == dns.name.from_text(name).to_wire()
    with pytest.raises(ValueError, match="domain name"):
        to_wire(f"{name}x")


def test_types_have_the_numbers_that_dnspython_knows() -> None:
    assert {each.name: each.value for each in Type} == {each.name: dns.rdatatype.from_text(each.name) for each in Type}


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 64, ".".join(["x" * 63] * 4), "bücher.example"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"domain name|ascii"):
        to_wire(name)


def test_bytes_that_no_hosts_name_has_are_shown_by_their_numbers() -> None:
    assert to_text(b"\3a.\n\x02\\\xff\0") == r"a\046\010.\092\255"
    assert to_text(parsed(messages.query()).name) == NAME


def test_only_what_can_be_told_apart_in_a_line_is_shown_as_it_is() -> None:
    plain = {*string.ascii_letters, *string.digits, *string.punctuation} - {".", '"', "\\"}
    for byte in range(256):
        shown = to_text(bytes([1, byte, 0]))
        assert shown == (chr(byte) if chr(byte) in plain else f"\\{byte:03}")


@pytest.mark.parametrize("cut", range(1, 35))
def test_an_opt_record_that_is_cut_is_none(cut: int) -> None:
    assert parsed(messages.query(edns=1232)).edns == Edns(1232, 0, dnssec_ok=False, cookie=b"")
    for message in (messages.query(edns=1232)[: -min(cut, 11)], with_cookie(bytes(range(24)))[:-cut]):
        assert parsed(message).edns is None
