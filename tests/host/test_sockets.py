from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from certbot_standalone_nfq.host import processes, resolver, sock_diag
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.sockets import Listener, Lookout, listeners
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


def watched(port: int, protocol: int = socket.IPPROTO_TCP) -> list[Listener]:
    """Return what a lookout sees."""
    with contextlib.closing(Lookout(port, protocol)) as lookout:
        assert lookout.look() == lookout.look()
        return lookout.look()


WAYS = pytest.mark.parametrize("find", [listeners, watched])


@WAYS
def test_a_listener_is_found_with_its_address_and_inode(
    lonely_host: Host, find: Callable[[int], list[Listener]]
) -> None:
    with lonely_host.inside(), listening("127.0.0.1") as ipv4, listening("::1") as ipv6, listening("127.0.0.1", 81):
        assert find(80) == [Listener(4, "127.0.0.1", inode(ipv4)), Listener(6, "::1", inode(ipv6))]


@WAYS
def test_an_ipv4_address_that_a_socket_for_ipv6_is_bound_to_is_ipv4(
    lonely_host: Host, find: Callable[[int], list[Listener]]
) -> None:
    with lonely_host.inside(), listening("::ffff:127.0.0.1"):
        assert [(found.version, found.address) for found in find(80)] == [(4, "127.0.0.1")]


@WAYS
def test_connections_are_no_listeners(pair: tuple[Host, Host], find: Callable[[int], list[Listener]]) -> None:
    client, server = pair
    with server.inside(), listening(server.ipv4) as listener, client.connect(server.ipv4):
        with listener.accept()[0]:
            assert len(find(80)) == 1
        listener.close()
        assert find(80) == []


def test_more_listeners_than_one_message_holds_are_all_found(lonely_host: Host) -> None:
    with lonely_host.inside(), contextlib.ExitStack() as stack:
        lonely_host.run("ip", "address", "add", "10.0.0.0/16", "dev", "lo")
        for number in range(600):
            stack.enter_context(listening(f"10.0.{number // 250}.{number % 250}"))
        found = watched(80)
        assert len(found) == 600
        assert sorted(found, key=str) == sorted(listeners(80), key=str)


@pytest.mark.parametrize("refused", ["connect", "listening"])
def test_where_the_kernel_does_not_list_sockets_they_are_read_from_proc(
    lonely_host: Host, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    asked = []

    def refuse(*_: object) -> None:
        asked.append(refused)
        raise PermissionError

    monkeypatch.setattr(sock_diag, refused, refuse)
    with lonely_host.inside(), listening("127.0.0.1"):
        assert len(watched(80)) == 1
    assert len(asked) == 1


def test_what_the_kernel_answers_to_a_question_it_refuses_is_an_error(lonely_host: Host) -> None:
    """Sockets of a family that it does not know, as on a kernel without inet_diag."""
    with (
        lonely_host.inside(),
        contextlib.closing(sock_diag.connect()) as kernel,
        pytest.raises(OSError, match="No such"),
    ):
        sock_diag.listening(kernel, 80, families=(socket.AF_IPX,))


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


@pytest.mark.parametrize("show", [listeners, watched])
def test_sockets_of_udp_are_found_unless_they_have_a_peer(
    lonely_host: Host, show: Callable[[int, int], list[Listener]]
) -> None:
    with contextlib.ExitStack() as stack, lonely_host.inside():
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("127.0.0.2", socket.AF_INET)):
            opened = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            opened.bind((address, 53))
        opened.connect(("127.0.0.1", 9))
        found = show(53, socket.IPPROTO_UDP)
        assert [(each.version, each.address) for each in found] == [(4, "127.0.0.1"), (6, "::1")]
        assert show(53, socket.IPPROTO_TCP) == []
