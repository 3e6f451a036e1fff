"""Both clients of the packet queue, on the real kernel: the same tests for each."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue import clients, messages
from certbot_standalone_nfq.capture.nfqueue import queue as queues
from certbot_standalone_nfq.capture.nfqueue.messages import KernelVerdict, QueuedPacket
from certbot_standalone_nfq.capture.nfqueue.queue import PacketQueue, QueueOccupied
from lab.hosts import Host
from lab.interceptor import CLIENTS
from lab.processes import wait_until

NUMBER = 28099
_SO_RCVBUFFORCE = 33
OpenQueue = Callable[[int], PacketQueue]


@pytest.fixture(params=CLIENTS)
def open_queue(request: pytest.FixtureRequest) -> OpenQueue:
    return lambda number: clients.open_queue(number, request.param)


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    lonely_host.run(
        *("iptables", "-A", "OUTPUT", "-p", "udp", "--dport", "9", "-m", "mark", "!", "--mark", "0x5"),
        *("-j", "NFQUEUE", "--queue-num", str(NUMBER), "--queue-bypass"),
    )
    with lonely_host.inside():
        yield lonely_host


@pytest.fixture
def queue(host: Host, open_queue: OpenQueue) -> Iterator[PacketQueue]:
    opened = open_queue(NUMBER)
    yield opened
    opened.close()


@pytest.fixture
def receiver(host: Host) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        opened.bind(("127.0.0.1", 9))
        opened.settimeout(10)
        yield opened


def send(payload: bytes, **options: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if "tos" in options:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, options["tos"])
        sender.sendto(payload, ("127.0.0.1", 9))


def next_packet(queue: PacketQueue) -> QueuedPacket:
    def receive() -> list[QueuedPacket]:
        select.select([queue], [], [], 1)
        return queue.receive()

    packets: list[QueuedPacket] = wait_until(receive, "a packet is queued")
    assert len(packets) == 1
    return packets[0]


def statistics(host: Host) -> dict[int, list[str]]:
    table = host.queues()
    return {int(line.split()[0]): line.split() for line in table.splitlines()}


def test_a_packet_comes_from_its_ip_header_on_and_goes_on_when_accepted(
    queue: PacketQueue, receiver: socket.socket
) -> None:
    send(b"hello")
    packet = next_packet(queue)
    assert packet.payload[0] == 0x45
    assert packet.payload.endswith(b"hello")
    queue.give_verdict(packet.id, KernelVerdict.ACCEPT)
    assert receiver.recv(100) == b"hello"


def test_a_repeated_packet_meets_the_rules_again_with_its_new_mark(queue: PacketQueue, receiver: socket.socket) -> None:
    send(b"once more")
    queue.give_verdict(next_packet(queue).id, KernelVerdict.REPEAT, mark=5)
    assert receiver.recv(100) == b"once more"


def test_a_packet_goes_on_with_its_new_payload_and_mark(queue: PacketQueue, receiver: socket.socket) -> None:
    send(b"before")
    packet = next_packet(queue)
    changed = packet.payload.replace(b"before", b"after!")
    udp = 20
    changed = changed[: udp + 6] + b"\0\0" + changed[udp + 8 :]  # no UDP checksum
    queue.give_verdict(packet.id, KernelVerdict.REPEAT, mark=5, payload=changed)
    assert receiver.recv(100) == b"after!"


def test_a_dropped_packet_is_gone(queue: PacketQueue, receiver: socket.socket) -> None:
    send(b"dropped")
    queue.give_verdict(next_packet(queue).id, KernelVerdict.DROP)
    send(b"kept")
    queue.give_verdict(next_packet(queue).id, KernelVerdict.ACCEPT)
    assert receiver.recv(100) == b"kept"


def test_a_packet_with_a_priority_is_whole(queue: PacketQueue, receiver: socket.socket) -> None:
    send(b"urgent", tos=0x10)
    packet = next_packet(queue)
    assert packet.payload.endswith(b"urgent")
    queue.give_verdict(packet.id, KernelVerdict.ACCEPT)
    assert receiver.recv(100) == b"urgent"


def test_the_longest_packet_is_whole(queue: PacketQueue, receiver: socket.socket) -> None:
    payload = bytes(range(256)) * 250
    send(payload)
    packet = next_packet(queue)
    assert packet.payload.endswith(payload)
    queue.give_verdict(packet.id, KernelVerdict.ACCEPT)
    assert receiver.recv(1 << 16) == payload


def test_a_verdict_that_comes_too_late_is_no_error(queue: PacketQueue, receiver: socket.socket) -> None:
    queue.give_verdict(123_456, KernelVerdict.ACCEPT)
    send(b"the next one")
    queue.give_verdict(next_packet(queue).id, KernelVerdict.ACCEPT)
    assert receiver.recv(100) == b"the next one"


def test_packets_pass_while_nobody_listens(queue: PacketQueue, receiver: socket.socket) -> None:
    queue.close()
    send(b"bypass")
    assert receiver.recv(100) == b"bypass"


def test_packets_pass_when_the_queue_is_full(queue: PacketQueue, receiver: socket.socket) -> None:
    for _ in range(queues.QUEUE_LENGTH + 10):
        send(b"x")
    for _ in range(10):
        assert receiver.recv(100) == b"x"


def test_a_receive_buffer_that_overflows_loses_nobody_a_packet(
    monkeypatch: pytest.MonkeyPatch, host: Host, open_queue: OpenQueue, receiver: socket.socket
) -> None:
    monkeypatch.setattr(queues, "RECEIVE_BUFFER", 1 << 12)
    with contextlib.closing(open_queue(NUMBER)) as queue:
        for _ in range(1000):
            send(b"x" * 1000)
        # What fitted is in the queue; the rest has passed.
        passed = 1000 - int(statistics(host)[NUMBER][2])
        assert passed > 0
        for _ in range(passed):
            assert receiver.recv(2000)
        given: list[QueuedPacket] = []

        def drain() -> bool:
            for packet in queue.receive():
                given.append(packet)
                queue.give_verdict(packet.id, KernelVerdict.ACCEPT)
            return passed + len(given) >= 1000

        wait_until(drain, "every packet got its verdict")
        send(b"and on it goes")
        queue.give_verdict(next_packet(queue).id, KernelVerdict.ACCEPT)


def test_the_queue_is_long_and_shows_whole_packets(queue: PacketQueue, host: Host) -> None:
    number, _, _, copy_mode, copy_range = statistics(host)[NUMBER][:5]
    assert (int(number), int(copy_mode), int(copy_range)) == (NUMBER, 2, queues.COPY_BYTES)


def test_a_number_that_is_taken_is_occupied_not_forbidden(queue: PacketQueue, open_queue: OpenQueue) -> None:
    for opener in (
        open_queue,
        *(lambda number, client=client: clients.open_queue(number, client) for client in CLIENTS),
    ):
        with pytest.raises(QueueOccupied):
            opener(NUMBER)


def test_a_closed_queues_number_is_free_again(queue: PacketQueue, open_queue: OpenQueue) -> None:
    queue.close()
    open_queue(NUMBER).close()


def test_closing_twice_is_no_error(queue: PacketQueue) -> None:
    queue.close()


def test_the_descriptor_is_readable_when_a_packet_waits(queue: PacketQueue) -> None:
    assert select.select([queue], [], [], 0)[0] == []
    send(b"x")
    assert select.select([queue], [], [], 10)[0] == [queue]
    queue.give_verdict(next_packet(queue).id, KernelVerdict.DROP)


def test_a_message_that_makes_no_sense_is_passed_over(
    queue: PacketQueue, receiver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = messages.decode
    damaged: list[bytes] = []

    def decode_damaged_first(datagram: bytes) -> Any:
        if not damaged:
            damaged.append(datagram)
            datagram = struct.pack("=I", 9) + datagram[4:]
        return decode(datagram)

    monkeypatch.setattr(messages, "decode", decode_damaged_first)
    send(b"damaged on its way to us")
    send(b"undamaged")
    packet = next_packet(queue)
    assert packet.payload.endswith(b"undamaged")
    assert len(damaged) == 1
    queue.give_verdict(packet.id, KernelVerdict.ACCEPT)
    assert receiver.recv(100) == b"undamaged"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_kernel_that_will_not_bind_a_free_number_refuses_the_socket(
    client: str, lonely_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certbot_standalone_nfq.capture.nfqueue.state.bound_queues", set)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lonely_host.inside())
        stack.enter_context(contextlib.closing(clients.open_queue(NUMBER, client)))
        with pytest.raises(errors.NotPermitted, match=r"netlink socket.*Operation not permitted"):
            clients.open_queue(NUMBER, client)
