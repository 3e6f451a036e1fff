"""Queries for a pending name, between real hosts and past a real name server: over UDP and TCP, however they arrive."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.engine.protocols import ChallengeId, Transport
from certbot_standalone_nfq.engine.verdicts import Answered
from lab import hosts, interceptor
from lab.hosts import Host
from lab.interceptor import EBPF, KINDS, VARIANTS
from lab.nameservers import WWW, ZONE, name_server
from lab.processes import wait_until
from tests.challenges.dns01.messages import KEY_AUTHORIZATION, NAME, VALUE, over_tcp, query, values

OTHER_PORT = 5353
FAMILIES = ["ipv4", "ipv6"]
ID = ChallengeId(Dns01Solver.typ, NAME)
TARGET = "d420c923-bbd7-4056-ab64-c3ca54c9b3cf.auth.example.net"


@dataclass
class Lab:
    """Who asks, the host with the plugin, where the name server is, and what has been answered."""

    client: Host
    server: Host
    translated: bool
    """Whether the name server is not where queries are sent to."""
    answered: list[Answered] = field(default_factory=list)
    by_ebpf: bool = False


@contextlib.contextmanager
def intercepting(host: Host, *keys: str, **settings: Any) -> Iterator[list[Answered]]:
    """Answer for names on a host."""
    answers = dict.fromkeys(keys, KEY_AUTHORIZATION)
    with interceptor.intercepting(host, answers, port=53, solver=Dns01Solver, **settings) as (_, answered):
        yield answered


def by_itself(client: Host, server: Host, behind: Host) -> None:
    """Nothing is in between."""


def from_itself(client: Host, server: Host, behind: Host) -> None:
    """The server's own programs ask, over the loopback interface."""


def past_a_strict_firewall(client: Host, server: Host, behind: Host) -> None:
    for program in ("iptables", "ip6tables"):
        for chain, rule in (
            ("INPUT", "-p udp --dport 53"),
            ("INPUT", "-p tcp --dport 53"),
            *((chain, "-m conntrack --ctstate ESTABLISHED,RELATED") for chain in ("INPUT", "OUTPUT")),
            *((chain, f"-{way} lo") for chain, way in (("INPUT", "i"), ("OUTPUT", "o"))),
            *((chain, "-p icmpv6") for chain in ("INPUT", "OUTPUT") if program == "ip6tables"),
        ):
            server.run(program, "-A", chain, *rule.split(), "-j", "ACCEPT")
        for chain in ("INPUT", "OUTPUT"):
            server.run(program, "-P", chain, "DROP")


def untracked(client: Host, server: Host, behind: Host) -> None:
    for program in ("iptables", "ip6tables"):
        for protocol in ("udp", "tcp"):
            server.run(program, "-t", "raw", "-A", "PREROUTING", "-p", protocol, "--dport", "53", "-j", "NOTRACK")
            server.run(program, "-t", "raw", "-A", "OUTPUT", "-p", protocol, "--sport", "53", "-j", "NOTRACK")


def redirected(client: Host, server: Host, behind: Host) -> None:
    """The name server has another port."""
    _translate(server, f"-A PREROUTING -p {{}} --dport 53 -j REDIRECT --to-ports {OTHER_PORT}", server)


def _translate(server: Host, rule: str, to: Host) -> None:
    for program, address in (("iptables", to.ipv4), ("ip6tables", to.ipv6)):
        bracketed = f"[{address}]" if ":" in address else address
        for protocol in ("udp", "tcp"):
            filled = rule.format(protocol, to=address, place=f"{bracketed}:53")
            server.run(program, "-t", "nat", *filled.split())


def published(client: Host, server: Host, behind: Host) -> None:
    """The name server is a container's, say."""
    _translate(server, "-A PREROUTING -i eth0 -p {} --dport 53 -j DNAT --to-destination {place}", behind)


def published_and_masqueraded(client: Host, server: Host, behind: Host) -> None:
    published(client, server, behind)
    _translate(server, "-A POSTROUTING -o inside -p {} -j MASQUERADE", behind)


Way = Callable[[Host, Host, Host], None]
LOCAL: list[Way] = [by_itself, from_itself, past_a_strict_firewall, untracked, redirected]
FORWARDED: list[Way] = [published, published_and_masqueraded]


@pytest.fixture(scope="module", params=[*LOCAL, *FORWARDED], ids=lambda way: str(way.__name__))
def laboratory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with hosts.pair() as (client, server), hosts.host("d") as behind:
        if request.param in FORWARDED:
            hosts.put_behind(server, behind)
        request.param(client, server, behind)
        serving = behind if request.param in FORWARDED else server
        port = OTHER_PORT if request.param is redirected else 53
        with name_server(serving, tmp_path_factory.mktemp("dns") / "nsd", port=port):
            translated = serving is behind or port == OTHER_PORT
            yield Lab(server if request.param is from_itself else client, server, translated)


@pytest.fixture(scope="module", params=[*VARIANTS, *EBPF])
def lab(laboratory: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The laboratory while a challenge is pending, and one at another name."""
    with intercepting(laboratory.server, NAME, TARGET, capture=request.param) as answered:
        laboratory.answered, laboratory.by_ebpf = answered, request.param in EBPF
        yield laboratory


@pytest.fixture(params=FAMILIES)
def address(lab: Lab, request: pytest.FixtureRequest) -> str:
    return str(getattr(lab.server, request.param))


def ask(client: Host, address: str, message: bytes) -> dns.message.Message:
    """Ask over UDP, once; nothing but an answer from there to exactly this question is taken."""
    with client.inside():
        return dns.query.udp(dns.message.from_wire(message), address, timeout=10)


def say(connection: socket.socket, *pieces: bytes) -> None:
    """Send pieces, each in a segment of its own."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        connection.sendall(piece)
        wait_until(lambda: _sent(connection), "the piece has arrived")


def _sent(connection: socket.socket) -> bool:
    unacknowledged = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28]
    return not int.from_bytes(unacknowledged, "little")


def hear(connection: socket.socket) -> Iterator[dns.message.Message]:
    """Yield the messages that come until the other side closes."""
    with connection.makefile("rb") as stream:
        while length := stream.read(2):
            yield dns.message.from_wire(stream.read(int.from_bytes(length, "big")))


@pytest.mark.firewall
def test_a_query_is_answered_whatever_its_case_and_type(lab: Lab, address: str) -> None:
    del lab.answered[:]
    assert values(ask(lab.client, address, query(edns=1232))) == {VALUE}
    assert values(ask(lab.client, address, query(NAME.upper()))) == {VALUE}
    assert not ask(lab.client, address, query(typ="NS")).answer
    wait_until(lambda: len(lab.answered) == 2, "the answers are told, which comes after they are sent")
    assert [(each.challenge, each.transport) for each in lab.answered] == [(ID, Transport.UDP)] * 2


def test_a_query_for_where_the_name_leads_is_answered(lab: Lab, address: str) -> None:
    del lab.answered[:]
    assert values(ask(lab.client, address, query(TARGET))) == {VALUE}
    with lab.client.connect(address, 53) as connection:
        say(connection, over_tcp(query(TARGET)))
        assert list(map(values, hear(connection))) == [{VALUE}]
    wait_until(lambda: len(lab.answered) == 2, "the answers are told, which comes after they are sent")


@pytest.mark.firewall
def test_everything_else_is_the_name_servers(lab: Lab, address: str) -> None:
    del lab.answered[:]
    queued = _queued(lab.server)
    for _ in range(3):
        assert WWW in str(ask(lab.client, address, query(f"www.{ZONE}", "A")))
    assert _queued(lab.server) == queued
    for name, typ in ((f"_acme-challenge.www.{ZONE}", "TXT"), (NAME, "DS")):
        message = ask(lab.client, address, query(name, typ))
        assert message.flags & dns.flags.AA
        assert not message.answer
        assert str(message.authority[0].name).lower() == f"{ZONE}."
    assert lab.answered == []


def _queued(host: Host) -> str:
    """Return the number of the last packet that was queued, or nothing where there is no queue."""
    return "".join(host.queues().split()[7:8])


@pytest.mark.firewall
@pytest.mark.parametrize("cuts", [(), (2,), (1, 20)], ids=str)
def test_a_query_over_tcp_is_answered(lab: Lab, address: str, cuts: tuple[int, ...]) -> None:
    """At once, the length by itself, or in pieces. What comes in pieces is left to the server by eBPF."""
    ours = not (lab.by_ebpf and cuts)
    stream = over_tcp(query(edns=1232))
    pieces = [stream[begin:end] for begin, end in zip((0, *cuts), (*cuts, len(stream)))]
    del lab.answered[:]
    with lab.client.connect(address, 53) as connection:
        say(connection, *pieces)
        assert values(next(hear(connection))) == ({VALUE} if ours else set())
    wait_until(lambda: len(lab.answered) == ours, "the answer is told, which comes after it is sent")
    assert [(each.challenge, each.transport) for each in lab.answered] == [(ID, Transport.TCP)] * ours


@pytest.mark.anywhere
def test_several_queries_on_one_connection_are_answered(lab: Lab, address: str) -> None:
    with lab.client.connect(address, 53) as connection:
        say(connection, over_tcp(query(typ="NS"), query(), query(edns=4096)))
        assert list(map(values, hear(connection))) == [set(), {VALUE}, {VALUE}]


@pytest.mark.anywhere
def test_a_query_behind_a_bystanders_on_its_connection_is_answered(lab: Lab, address: str) -> None:
    with lab.client.connect(address, 53) as connection:
        for _ in range(2):
            say(connection, over_tcp(query(f"www.{ZONE}", "A")))
            assert WWW in str(next(hear(connection)))
        say(connection, over_tcp(query()))
        # The programs of eBPF cannot tell whether a translated connection exists, but for its first request.
        expected = set() if lab.by_ebpf and lab.translated else {VALUE}
        assert values(next(hear(connection))) == expected


@pytest.mark.anywhere
def test_bystanders_over_tcp_are_the_name_servers(lab: Lab, address: str) -> None:
    with lab.client.inside():
        message = dns.query.tcp(dns.message.from_wire(query(f"www.{ZONE}", "A")), address, timeout=10)
    assert WWW in str(message)


@pytest.mark.parametrize("selection", ["port", "stateless-port"])
@pytest.mark.parametrize("variant", KINDS)
def test_where_a_whole_port_is_queued_the_same_is_answered(
    tmp_path_factory: pytest.TempPathFactory, variant: str, selection: str
) -> None:
    with hosts.pair() as (client, server), name_server(server, tmp_path_factory.mktemp("dns") / "nsd"):
        with intercepting(server, NAME, capture=variant, selection=selection):
            for address in (server.ipv4, server.ipv6):
                assert values(ask(client, address, query())) == {VALUE}
                assert WWW in str(ask(client, address, query(f"www.{ZONE}", "A")))
                with client.connect(address, 53) as connection:
                    say(connection, over_tcp(query()))
                    assert list(map(values, hear(connection))) == [{VALUE}]
        assert "certbot" not in server.rules().lower()


@pytest.mark.anywhere
def test_programs_that_ask_find_nothing_wrong_with_the_answers(
    pair: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """BIND gives cookies, and expects them back."""
    client, server = pair
    ways = ["", "+dnssec +nsid", "+tcp", "+bufsize=512", "+noedns", "+cdflag", "+cookie=0123456789abcdef" + "00" * 16]
    with name_server(server, tmp_path_factory.mktemp("dns") / "bind", "bind"), intercepting(server, NAME):
        for program in ("dig", "kdig"):
            for options in ways:
                said = client.run(program, f"@{server.ipv4}", NAME, "TXT", "+norecurse", *options.split())
                assert f'"{VALUE}"' in said
                assert not re.search("(?i)warning|malformed|mismatch|extra|bad", said), said


@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_where_connections_are_not_tracked_they_are_not_afterwards(
    pair: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory, variant: str
) -> None:
    """A busy name server's clients would fill the table of connections."""
    client, server = pair
    tracked = ("cat", "/proc/sys/net/netfilter/nf_conntrack_count")
    with name_server(server, tmp_path_factory.mktemp("dns") / "nsd"), intercepting(server, NAME, capture=variant):
        for address in (server.ipv4, server.ipv6):
            assert values(ask(client, address, query())) == {VALUE}
            assert WWW in str(ask(client, address, query(f"www.{ZONE}", "A")))
            with client.connect(address, 53) as connection:
                say(connection, over_tcp(query()))
                assert list(map(values, hear(connection))) == [{VALUE}]
        assert server.run(*tracked) == "0\n"


def test_more_values_than_a_datagram_has_room_for_are_fetched_over_tcp(
    pair: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory
) -> None:
    client, server = pair
    answers = {NAME: KEY_AUTHORIZATION}
    with (
        name_server(server, tmp_path_factory.mktemp("dns") / "nsd"),
        interceptor.intercepting(server, answers, port=53, solver=Dns01Solver) as (interception, _),
    ):
        for number in range(30):
            interception.answer(ID, f"{number}.thumbprint")
        for address in (server.ipv4, server.ipv6):
            assert ask(client, address, query(edns=1232)).flags & dns.flags.TC
            assert len(client.run("dig", "+short", f"@{address}", NAME, "TXT").splitlines()) == 31


@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_a_process_that_is_killed_leaves_nothing_and_queries_go_on(
    pair: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory, variant: str
) -> None:
    client, server = pair
    pending = {"port": 53, "typ": Dns01Solver.typ, "key": NAME, "capture": variant}
    with name_server(server, tmp_path_factory.mktemp("dns") / "nsd"):
        rules = server.rules()
        with interceptor.interceptor_process(server, **pending) as process:
            assert (server.rules() == rules) == (variant in EBPF)
            process.kill()
            process.wait()
            for address in (server.ipv4, server.ipv6):
                assert ask(client, address, query()).rcode() == dns.rcode.NXDOMAIN
            wait_until(lambda: server.rules() == rules, "the watchdog has removed the rules")
