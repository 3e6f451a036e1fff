from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from certbot_standalone_nfq.host import processes, resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.sockets import Listener, listeners
from lab.hosts import Host


@contextlib.contextmanager
def listening(address: str, port: int = 80) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, port))
        listener.listen()
        yield listener


def inode(listener: socket.socket) -> int:
    return os.fstat(listener.fileno()).st_ino


def test_a_listener_is_found_with_its_address_and_inode(lonely_host: Host) -> None:
    with lonely_host.inside(), listening("127.0.0.1") as ipv4, listening("::1") as ipv6, listening("127.0.0.1", 81):
        assert listeners(80) == [Listener(4, "127.0.0.1", inode(ipv4)), Listener(6, "::1", inode(ipv6))]


def test_an_ipv4_address_that_a_socket_for_ipv6_is_bound_to_is_ipv4(lonely_host: Host) -> None:
    with lonely_host.inside(), listening("::ffff:127.0.0.1"):
        assert [(found.version, found.address) for found in listeners(80)] == [(4, "127.0.0.1")]


def test_connections_are_no_listeners(pair: tuple[Host, Host]) -> None:
    client, server = pair
    with server.inside(), listening(server.ipv4) as listener, client.connect(server.ipv4):
        with listener.accept()[0]:
            assert len(listeners(80)) == 1
        listener.close()
        assert listeners(80) == []


def test_a_listener_serves_its_address_or_any_and_one_on_ipv6_maybe_ipv4(lonely_host: Host) -> None:
    any4, any6, one = Listener(4, "0.0.0.0", 1), Listener(6, "::", 2), Listener(6, "2001:db8::1", 3)
    assert any4.serves("198.51.100.1")
    assert not any4.serves("2001:db8::1")
    assert any6.serves("198.51.100.1")
    assert one.serves("2001:db8:0::1")
    assert not one.serves("2001:db8::2")


def test_the_owner_of_a_socket_is_found_as_long_as_there_is_time(lonely_host: Host) -> None:
    with lonely_host.inside(), listening("127.0.0.1") as listener:
        mine = {inode(listener): processes.name(os.getpid())}
        assert processes.socket_owners(set(mine), Deadline(10)) == mine
        assert processes.socket_owners(set(mine), Deadline(0)) == {}


def test_a_process_that_is_gone_has_no_name() -> None:
    assert processes.name(1 << 30) == ""


def test_an_address_is_local_if_an_interface_has_it(pair: tuple[Host, Host]) -> None:
    client, server = pair
    with server.inside():
        assert resolver.is_local(server.ipv4) is True
        assert resolver.is_local(server.ipv6) is True
        assert resolver.is_local(client.ipv4) is False
        assert resolver.is_local(client.ipv6) is False
        server.run("sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1")
        assert resolver.is_local(client.ipv6) is None
        assert resolver.is_local(client.ipv4) is False
