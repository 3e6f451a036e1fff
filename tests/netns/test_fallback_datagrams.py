"""Datagrams where no server receives any: at which addresses Certbot does, and how it gives way to servers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.host.firewall.reader import Snapshot, take_snapshot
from certbot_standalone_nfq.session.acceptor import Answering
from certbot_standalone_nfq.session.listener import FallbackListener
from lab.hosts import Host
from lab.processes import wait_until

OTHER4, OTHER6 = "198.51.100.3", "2001:db8:100::3"


def echo(message: bytes) -> bytes | None:
    return None if message == b"silence" else b"heard " + message


@contextlib.contextmanager
def standing_in(host: Host, rules: Snapshot | None = None) -> Iterator[None]:
    answering = Answering(lambda _: None, reply=echo)
    with host.inside():
        fallback_listener = FallbackListener(53, "", rules or Snapshot(), answering, protocol=socket.IPPROTO_UDP)
        try:
            fallback_listener.start()
            yield
        finally:
            fallback_listener.stop()


@contextlib.contextmanager
def receiving(host: Host, address: str, option: int | None = None) -> Iterator[socket.socket]:
    """Receive datagrams to port 53 of an address, perhaps able to share it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.inside(), socket.socket(family, socket.SOCK_DGRAM) as opened:
        if option is not None:
            opened.setsockopt(socket.SOL_SOCKET, option, 1)
        opened.bind((address, 53))
        yield opened


def places(host: Host) -> set[str]:
    return {line.split()[3] for line in host.run("ss", "-lunH", "sport = :53").splitlines()}


def ask(client: Host, address: str, message: bytes = b"you") -> bytes:
    """Send a datagram, and return what comes back from the same address and port."""
    with client.inside(), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as us:
        us.settimeout(5)
        us.connect((address, 53))
        us.send(message)
        return us.recv(512)


@pytest.fixture
def server(pair: tuple[Host, Host]) -> Host:
    """A server that has two addresses of each family."""
    pair[1].run("ip", "address", "add", f"{OTHER4}/24", "dev", "eth0")
    pair[1].run("ip", "address", "add", f"{OTHER6}/64", "dev", "eth0", "nodad")
    return pair[1]


def test_replies_come_from_the_address_that_was_asked(pair: tuple[Host, Host], server: Host) -> None:
    with standing_in(server):
        for address in (server.ipv4, OTHER4, server.ipv6, OTHER6):
            assert ask(pair[0], address) == b"heard you"
    assert places(server) == set()


def test_what_has_no_reply_does_not_hold_up_what_has(pair: tuple[Host, Host], server: Host) -> None:
    client = pair[0]
    with standing_in(server), client.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as us:
        us.settimeout(5)
        us.connect((server.ipv4, 53))
        for message in (b"silence", b"", b"you"):
            us.send(message)
        assert [us.recv(512), us.recv(512)] == [b"heard ", b"heard you"]


def test_beside_a_stub_resolver_on_loopback_it_receives_at_all_other_addresses(
    pair: tuple[Host, Host], server: Host
) -> None:
    with receiving(server, "127.0.0.53"), standing_in(server):
        assert places(server) == {"127.0.0.53:53", f"{server.ipv4}:53", f"{OTHER4}:53", "[::]:53"}
        assert ask(pair[0], OTHER4) == b"heard you"


def test_where_a_server_receives_at_all_addresses_it_does_not(server: Host) -> None:
    with receiving(server, "::"), standing_in(server):
        assert len(server.run("ss", "-lunH", "sport = :53").splitlines()) == 1


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_server_that_begins_meanwhile_gets_the_port(pair: tuple[Host, Host], server: Host, option: int) -> None:
    with standing_in(server), receiving(server, "0.0.0.0", option) as theirs:
        wait_until(lambda: len(server.run("ss", "-lunH4", "sport = :53").splitlines()) == 1, "it has given way")
        with pair[0].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as us:
            us.sendto(b"for the server", (server.ipv4, 53))
        theirs.settimeout(5)
        assert theirs.recv(512) == b"for the server"
        assert ask(pair[0], server.ipv6) == b"heard you"


@pytest.mark.parametrize(("transport", "received"), [("udp", {"[::]:53"}), ("tcp", {"0.0.0.0:53", "[::]:53"})])
def test_where_a_rule_redirects_datagrams_it_leaves_them_to_that(
    server: Host, transport: str, received: set[str]
) -> None:
    redirect = ("-p", transport, "--dport", "53", "-j", "REDIRECT", "--to-ports", "5353")
    server.run("iptables", "-t", "nat", "-A", "PREROUTING", *redirect)
    with server.inside():
        rules = take_snapshot()
    with standing_in(server, rules):
        assert places(server) == received
