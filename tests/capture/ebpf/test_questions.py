"""What the program takes of DNS queries, over UDP and TCP: those for pending names, and no others."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.capture.ebpf.code import DROP, NEXT
from certbot_standalone_nfq.capture.ebpf.layout import Kind
from certbot_standalone_nfq.capture.ebpf.server_names import CASE
from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.wire import tcp, udp
from certbot_standalone_nfq.wire.udp import Datagram
from lab.ebpf import Bench, bench
from tests.challenges.dns01.messages import query
from tests.engine.peer import Peer

pytestmark = pytest.mark.root
NAME = "_acme-challenge.example.com"
ALIAS = "validation.example.net"
LONG = "_acme-challenge." + ".".join(["a" * 50] * 3)
ENDS = {"IPv4": ("192.0.2.1", "192.0.2.53"), "IPv6": ("2001:db8::1", "2001:db8::53")}


@pytest.fixture(scope="module")
def solver() -> Dns01Solver:
    made = Dns01Solver()
    for name in (NAME, ALIAS, LONG):
        made.add(name, "token.thumbprint")
    return made


@pytest.fixture(scope="module")
def loaded(solver: Dns01Solver) -> Iterator[Bench]:
    selectors = [replace(each, port=80) for each in Dns01Solver.selectors(53, [NAME, ALIAS, LONG])]
    with bench(selectors) as made:
        made.expect(*solver.pending_keys())
        yield made


def is_taken(loaded: Bench, message: bytes, family: str = "IPv4", link_header: int = 14) -> bool:
    """Whether a datagram is taken, else it passes."""
    client, server = ENDS[family]
    packet = udp.write(Datagram(client, next(loaded.ports), server, 80, message))
    outcome = loaded.send(packet, link_header)
    if not outcome.taken:
        assert (outcome.verdict, outcome.packet) == (NEXT, packet)
        return False
    (taken,) = outcome.taken
    assert (taken.kind, taken.payload, outcome.verdict) == (Kind.DATAGRAM, packet, DROP)
    return True


@pytest.mark.parametrize("link_header", [14, 0])
@pytest.mark.parametrize("family", ENDS)
@pytest.mark.parametrize("name", [NAME, NAME.upper(), ALIAS, LONG])
def test_a_query_for_a_pending_name_is_taken(loaded: Bench, name: str, family: str, link_header: int) -> None:
    assert is_taken(loaded, query(name), family, link_header)
    assert is_taken(loaded, query(name, "AAAA", edns=1232, dnssec=True), family, link_header)


@pytest.mark.parametrize(
    "message",
    [
        query("_acme-challenge.example.org"),
        query("www.example.com"),
        query("_acme-challenge.example.com.org"),
        query("x." + NAME),
        query(NAME, "DS"),
        query(LONG + "a"),
        query(NAME)[:-1],
        query(NAME)[:20],
        b"",
        query(NAME)[:2] + b"\x81" + query(NAME)[3:],
        query(NAME)[:-2] + b"\0\3",
        query(NAME)[:12] + b"\xc0\x0c" + query(NAME)[-4:],
        query(NAME, edns=1232)[:-5] + b"\1" + query(NAME, edns=1232)[-4:],
    ],
    ids=range(13),
)
def test_other_queries_pass(loaded: Bench, solver: Dns01Solver, message: bytes) -> None:
    assert solver.reply(message) is None
    assert not is_taken(loaded, message)


def test_datagrams_to_other_ports_and_fragments_pass(loaded: Bench) -> None:
    packet = bytearray(udp.write(Datagram("192.0.2.1", 4000, "192.0.2.53", 80, query(NAME))))
    for place, value in ((22, 81), (6, 0x2000)):
        changed = bytearray(packet)
        struct.pack_into("!H", changed, place, value)
        outcome = loaded.send(bytes(changed))
        assert (outcome.verdict, outcome.packet, outcome.taken) == (NEXT, bytes(changed), [])


@pytest.mark.parametrize("name", [NAME, ALIAS, LONG])
def test_a_query_over_tcp_is_taken_behind_its_length(loaded: Bench, name: str) -> None:
    for asked, wanted in ((name, True), ("_acme-challenge.example.org", False)):
        message = query(asked)
        sent = Peer(port=next(loaded.ports)).segment(len(message).to_bytes(2, "big") + message)
        loaded.open_connection(sent)
        outcome = loaded.send(tcp.write(sent))
        assert [taken.kind for taken in outcome.taken] == [Kind.TAKEN] * wanted
        assert not outcome.watched


@given(data=st.data())
def test_whatever_a_datagram_holds_what_is_taken_is_answered(
    data: st.DataObject, loaded: Bench, solver: Dns01Solver
) -> None:
    """Where names are compared whole: of longer ones than 64 bytes, these and the length are, and no bit of case."""
    name = data.draw(st.sampled_from([NAME, ALIAS, "_acme-challenge.example.org", "example.com"]))
    typ = data.draw(st.sampled_from(["TXT", "NS", "DS", "A"]))
    message = bytearray(query(name, typ, edns=data.draw(st.sampled_from([None, 1232]))))
    if data.draw(st.booleans()):
        message[data.draw(st.integers(2, len(message) - 1))] ^= data.draw(
            st.integers(1, 255).filter(lambda bits: bits != CASE)
        )
    length = len(message) if data.draw(st.integers(0, 3)) else data.draw(st.integers(1, len(message)))
    whole = bytes(message[:length])
    if solver.reply(whole) is not None:
        assert is_taken(loaded, whole)
    elif int.from_bytes(whole[6:10], "big") == 0 and whole[10:12] in (b"\0\0", b"\0\1"):
        assert not is_taken(loaded, whole)
