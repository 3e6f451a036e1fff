"""Queries as resolvers send them, made by dnspython, which also judges what we make of them."""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver

NAME = "_acme-challenge.example.com"
KEY_AUTHORIZATION = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.thumbprint"
VALUE = "sDVPWrWxT7TW2IBM0LL6b1r05x3GD7RY3yQKp_lXHFc"
OTHER_KEY_AUTHORIZATION = "another.thumbprint"


def query(name: str = NAME, typ: str = "TXT", *, edns: int | None = None, dnssec: bool = False) -> bytes:
    """Return a query with the name's case at random, as many resolvers send it, recursion not desired."""
    mixed = "".join(random.choice((letter.lower(), letter.upper())) for letter in name)
    message = dns.message.make_query(mixed, typ, want_dnssec=dnssec)
    message.flags = 0
    if edns is not None:
        message.use_edns(0, dns.flags.DO if dnssec else 0, edns)
    return message.to_wire()


def with_cookie(cookie: bytes) -> bytes:
    """Return a query with a cookie (RFC 7873)."""
    message = dns.message.make_query(NAME, "TXT")
    message.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)])
    return message.to_wire()


def over_tcp(*messages: bytes) -> bytes:
    """Return messages as a stream."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def values(message: dns.message.Message) -> set[str]:
    """Return the values of the TXT records that answer a question."""
    records = [record for each in message.answer for record in each if record.rdtype == dns.rdatatype.TXT]
    return {b"".join(record.strings).decode() for record in records}


def pending_solver() -> Dns01Solver:
    """Return a solver that answers for one name, with one value."""
    solver = Dns01Solver()
    solver.add(NAME, KEY_AUTHORIZATION)
    return solver
