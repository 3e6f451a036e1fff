"""What conntrack is asked, on the real kernel; its answers are read as they come."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.host import conntrack
from certbot_standalone_nfq.host.conntrack import Tracked
from certbot_standalone_nfq.wire.tcp import Connection
from lab.hosts import Host


@contextlib.contextmanager
def connected(pair: tuple[Host, Host], address: str) -> Iterator[tuple[str, int]]:
    """Connect the client to the server; yield the client's address and port."""
    client, server = pair
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with server.inside(), socket.create_server(("", 8080), family=family), client.connect(address, 80) as connection:
        yield connection.getsockname()[:2]


@pytest.fixture(params=["ipv4", "ipv6"])
def address(request: pytest.FixtureRequest, pair: tuple[Host, Host]) -> str:
    return str(getattr(pair[1], request.param))


def translate(server: Host, *rules: str) -> None:
    for program in ("iptables", "ip6tables"):
        for rule in ("-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080", *rules):
            server.run(program, "-t", "nat", *rule.split())


def find(server: Host, connection: Connection) -> Tracked | None:
    with server.inside():
        return conntrack.find(connection)


def test_a_connection_whose_source_is_not_translated_is_replied_to_there(pair: tuple[Host, Host], address: str) -> None:
    translate(pair[1])
    with connected(pair, address) as client:
        assert find(pair[1], Connection(*client, address, 8080)) == Tracked(*client)


def test_a_connection_whose_source_is_translated_is_replied_to_where_the_server_sees_it(
    pair: tuple[Host, Host], address: str
) -> None:
    client, server = pair
    translate(server)
    program, to = ("ip6tables", f"[{address}]:999") if ":" in address else ("iptables", f"{address}:999")
    server.run(program, "-t", "nat", "-A", "INPUT", "-p", "tcp", "-j", "SNAT", "--to-source", to)
    with connected(pair, address) as (peer, port):
        assert find(server, Connection(peer, port, address, 8080)) == Tracked(address, 999)
        assert find(server, Connection(peer, port, address, 8081)) is None
        assert find(server, Connection(client.ipv4, port ^ 1, server.ipv4, 8080)) is None


def test_a_machine_that_does_not_track_knows_of_no_connection(pair: tuple[Host, Host], address: str) -> None:
    assert find(pair[1], Connection(address, 1024, address, 80)) is None
