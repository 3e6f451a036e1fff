from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR

from certbot_standalone_nfq.host import caa
from certbot_standalone_nfq.host.caa import Caa, Unreadable, caa_records
from lab.hosts import Host

pytestmark = pytest.mark.anywhere

NAME = "www.example.com"
RECORD = b"\x80\x05issueca.example.net"


def answer(identifier: int = 7, name: str = NAME, rdata: bytes = RECORD, **fields: int) -> bytes:
    record = DNSRR(rrname=name, type=257, rdata=rdata)
    return bytes(DNS(**{"id": identifier, "qr": 1, **fields}, qd=DNSQR(qname=name, qtype=257), an=record))


def test_a_record_is_read_with_its_tag_and_value() -> None:
    assert caa._read(answer(), 7, NAME) == (False, [Caa("issue", "ca.example.net")])


@pytest.mark.parametrize(
    "octets",
    [
        answer(identifier=8),
        answer(name="other.example.com"),
        answer(qr=0),
        answer(rcode=2),
        answer(rdata=b"\x00"),
        answer(rdata=b"\x00\x09issue"),
        answer(rdata=b"\x00\x00"),
        answer(rdata=b"\x00\x01\xff"),
        answer()[:11],
        b"",
    ],
)
def test_an_answer_that_is_not_one_to_the_question_is_unreadable(octets: bytes) -> None:
    with pytest.raises(Unreadable):
        caa._read(octets, 7, NAME)


@given(st.binary(max_size=100), st.integers(0, 60), st.integers(0, 60))
def test_whatever_the_octets_are_they_are_read_or_unreadable(noise: bytes, begin: int, length: int) -> None:
    whole = answer()
    for octets in (noise, whole[:begin] + noise + whole[begin + length :], whole[:12] + noise):
        try:
            _, records = caa._read(octets, 7, NAME)
        except Unreadable:
            continue
        assert all(record.tag for record in records)


@pytest.fixture
def host(lonely_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host to ask from; the test asks in this process, whose /etc/resolv.conf stays as it is."""
    (tmp_path / "resolv.conf").write_text("# a comment\nsearch example.com\nnameserver ::1\nnameserver 127.0.0.9\n")
    monkeypatch.setattr(caa, "_RESOLV_CONF", tmp_path / "resolv.conf")
    with lonely_host.inside():
        yield lonely_host


def test_an_answer_that_is_too_long_for_udp_is_asked_for_by_tcp(host: Host) -> None:
    def serve() -> None:
        query, client = udp.recvfrom(4096)
        udp.sendto(answer(int.from_bytes(query[:2], "big"), tc=1), client)
        connection, _ = tcp.accept()
        with connection, connection.makefile("rb") as stream:
            query = stream.read(int.from_bytes(stream.read(2), "big"))
            reply = answer(int.from_bytes(query[:2], "big"), rdata=b"\0\5issue" + b"x" * 5000)
            connection.sendall(struct.pack("!H", len(reply)) + reply)

    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_INET6) as tcp:
        udp.bind(("::1", 53))
        tcp.bind(("::1", 53))
        tcp.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        assert caa_records(f"{NAME}.", 5) == (NAME, [Caa("issue", "x" * 5000)])
        thread.join()


def test_a_nameserver_that_is_not_there_is_named_as_the_reason(host: Host) -> None:
    with pytest.raises(Unreadable, match="refused"):
        caa_records(NAME, 5)


def test_what_cannot_be_a_name_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no name"):
        caa_records("two..dots", 5)
