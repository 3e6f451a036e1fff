"""Queries that are not for pending names, where no server receives any."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.challenges.dns01.messages import NAME, over_tcp, pending_solver, query

ABOVE = ["com", "example.com"]


def refused(message: bytes) -> dns.message.Message:
    """Return the response to a query, as dnspython reads it and takes it for one."""
    solver = pending_solver()
    data = solver.refuse(message)
    assert data
    assert solver.refuse_stream(over_tcp(message)) == over_tcp(data)
    response = dns.message.from_wire(data)
    assert dns.message.from_wire(message).is_response(response)
    return response


@pytest.mark.parametrize("typ", ["NS", "A", "SOA", "TXT", "DS"])
@pytest.mark.parametrize("name", [*ABOVE, NAME])
def test_names_above_a_pending_one_exist_without_records(name: str, typ: str) -> None:
    response = refused(query(name, typ, edns=1232))
    assert response.rcode() == dns.rcode.NOERROR
    assert response.flags & dns.flags.AA
    assert response.answer == []
    assert [each.rdtype for each in response.authority] == [dns.rdatatype.SOA]
    assert response.authority[0][0].minimum == response.authority[0].ttl == 0


@pytest.mark.parametrize("name", [".", "org", "example.org", "xample.com", "www.example.com", f"a.{NAME}"])
def test_other_names_are_refused(name: str) -> None:
    response = refused(query(name))
    assert response.rcode() == dns.rcode.REFUSED
    assert not response.flags & dns.flags.AA
    assert not response.authority


def test_names_above_any_of_several_pending_ones_exist() -> None:
    solver = pending_solver()
    solver.add("_acme-challenge.example.org", "another.thumbprint")
    for name in (*ABOVE, "org", "example.org"):
        data = solver.refuse(query(name))
        assert data
        assert dns.message.from_wire(data).rcode() == dns.rcode.NOERROR


@given(st.binary(max_size=300))
def test_no_bytes_trouble_it(octets: bytes) -> None:
    pending_solver().refuse(octets)
    pending_solver().refuse_stream(octets)


def test_what_is_no_query_gets_nothing() -> None:
    for octets in (b"", query()[:-1], query()[:2] + b"\x84" + query()[3:]):
        assert pending_solver().refuse(octets) is None
        assert pending_solver().refuse_stream(over_tcp(octets)) == b""
