"""Paths through name servers that say anything at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.host.dns.path import follow
from certbot_standalone_nfq.host.dns.questions import Unreadable

pytestmark = pytest.mark.anywhere

NAME = dns.name.from_text("_acme-challenge.example.com.")
OWNERS = ["_acme-challenge.example.com.", "example.com.", "com.", ".", "a.example.com.", "b.com.", "ns.b.com."]
TARGETS = st.sampled_from(OWNERS)
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
RECORDS = st.one_of(
    st.tuples(TARGETS, st.sampled_from(["NS", "CNAME"]), TARGETS),
    st.tuples(TARGETS, st.just("A"), st.sampled_from([HERE, ELSEWHERE])),
    st.tuples(TARGETS, st.just("SOA"), st.just("a. b. 1 1 1 1 1")),
    st.tuples(TARGETS, st.just("DS"), st.just(f"1 13 2 {'ab' * 32}")),
)
Record = tuple[str, str, str]
Reply = Optional[tuple[Sequence[Sequence[Record]], int]]
"""The three sections of a reply, and its flags."""
SECTIONS = st.tuples(*[st.lists(RECORDS, max_size=3)] * 3)
REPLIES = st.lists(st.one_of(st.none(), st.tuples(SECTIONS, st.sampled_from([0, dns.flags.AA, dns.flags.AD]))))


class Arbitrary:
    """Replies one after another, whatever is asked; then there are none. Counts how much was asked."""

    def __init__(self, replies: list[Reply]) -> None:
        self._replies = iter(replies)
        self.asked: list[dns.name.Name] = []
        self.is_over = False

    def want_authentication(self) -> None:
        pass

    def resolve(self, name: dns.name.Name, kind: str) -> dns.resolver.Answer | None:
        self.asked.append(name)
        message = self._next(name, kind)
        if message is None:
            raise Unreadable("nothing")
        try:
            typ = dns.rdatatype.from_text(kind)
            return dns.resolver.Answer(name, typ, dns.rdataclass.IN, message)  # type: ignore[arg-type]
        except Exception as error:  # as dnspython's resolver has it
            raise Unreadable("nonsense") from error

    def ask(self, address: str, name: dns.name.Name, kind: str) -> dns.message.Message | None:
        assert address in (HERE, ELSEWHERE)
        return self._next(name, kind)

    def _next(self, name: dns.name.Name, kind: str) -> dns.message.Message | None:
        reply = next(self._replies, None)
        if reply is None:
            return None
        sections, flags = reply
        message = dns.message.make_response(dns.message.make_query(name, kind))
        message.flags |= flags
        for section, records in zip((message.answer, message.authority, message.additional), sections):
            section += [dns.rrset.from_text(owner, 60, "IN", typ, data) for owner, typ, data in records]
        return dns.message.from_wire(message.to_wire())


@given(REPLIES)
def test_a_path_ends_whatever_is_said_and_no_resolver_is_asked_for_its_names(
    replies: list[Reply],
) -> None:
    questions = Arbitrary(replies)
    try:
        path = follow(NAME, questions, lambda address: address == HERE)  # type: ignore[arg-type]
    except Unreadable:
        path = None
    assert NAME not in questions.asked
    if path is not None:
        assert len(path.stops) <= 9
        assert len({stop.name for stop in path.stops}) == len(path.stops)


@pytest.mark.parametrize("count", [1, 8, 9])
def test_a_chain_of_aliases_is_followed_so_far_and_no_further(count: int) -> None:
    replies: list[Reply] = []
    for number in range(count):
        owner = f"{number}.com." if number else NAME.to_text()
        zone = dns.name.from_text(owner).parent().to_text()
        replies += [
            ([[(zone, "SOA", "a. b. 1 1 1 1 1")], [], []], 0),
            ([[(zone, "NS", "ns.b.com.")], [], []], dns.flags.AD),
            ([[("ns.b.com.", "A", ELSEWHERE)], [], []], 0),
            None,  # no AAAA
            ([[(owner, "CNAME", f"{number + 1}.com.")], [], []], dns.flags.AA),
        ]
    path = follow(NAME, Arbitrary(replies), lambda _: False)  # type: ignore[arg-type]
    assert path.circle is (count > 8)
    assert len(path.stops) == min(count + 1, 9)
