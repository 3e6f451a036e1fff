"""Asking the first nameserver of /etc/resolv.conf for CAA records (RFC 8659).

Only what the system's resolver does not do is done here. Answers are anybody's bytes: whatever is wrong with one is
an Unreadable.
"""

from __future__ import annotations

import secrets
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.dns import DNS, DNSQR

_CAA = 257
_NO_ERROR, _NO_SUCH_NAME = 0, 3
_PORT = 53
_MAX_DATAGRAM = 0xFFFF
_RESOLV_CONF = Path("/etc/resolv.conf")


class Unreadable(Exception):
    """There is no answer, or none that makes sense; why, in words."""


@dataclass(frozen=True)
class Caa:
    """A CAA record: what it is about, and to what effect."""

    tag: str
    value: str


def caa_records(name: str, seconds: float) -> tuple[str, list[Caa]]:
    """Return the CAA records that hold for a name, and the name they were found at: it, or the nearest parent.

    Waits so many seconds for each answer. Raises Unreadable.
    """
    try:
        labels = name.rstrip(".").encode("idna").decode("ascii").split(".")
        nameserver = _nameserver()
        for first in range(len(labels)):
            owner = ".".join(labels[first:])
            records = _ask(nameserver, owner, seconds)
            if records:
                return owner, records
    except socket.timeout as error:  # not an alias of TimeoutError before Python 3.10
        raise Unreadable("the nameserver did not answer in time") from error
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except UnicodeError as error:
        raise Unreadable("it is no name") from error
    return "", []


def _nameserver() -> str:
    for line in _RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1]
    return "127.0.0.1"  # what resolv.conf(5) says of a file that names none


def _ask(nameserver: str, name: str, seconds: float) -> list[Caa]:
    identifier = secrets.randbelow(1 << 16)
    query = bytes(DNS(id=identifier, rd=1, qd=DNSQR(qname=name, qtype=_CAA)))
    answer = _over_udp(nameserver, query, seconds)
    truncated, records = _read(answer, identifier, name)
    if truncated:
        _, records = _read(_over_tcp(nameserver, query, seconds), identifier, name)
    return records


def _over_udp(nameserver: str, query: bytes, seconds: float) -> bytes:
    family, _, _, _, address = socket.getaddrinfo(nameserver, _PORT, flags=socket.AI_NUMERICHOST)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(seconds)
        udp.connect(address)
        udp.send(query)
        return udp.recv(_MAX_DATAGRAM)


def _over_tcp(nameserver: str, query: bytes, seconds: float) -> bytes:
    with socket.create_connection((nameserver, _PORT), timeout=seconds) as tcp, tcp.makefile("rb") as stream:
        tcp.sendall(struct.pack("!H", len(query)) + query)
        length = int.from_bytes(stream.read(2), "big")
        answer = stream.read(length)
        if not length or len(answer) < length:
            raise Unreadable("the nameserver closed the connection")
        return answer


def _read(answer: bytes, identifier: int, name: str) -> tuple[bool, list[Caa]]:
    """Return whether an answer is truncated, and its CAA records. Raises Unreadable, whatever the octets are."""
    try:
        message = DNS(answer)
        question = bytes(message.qd[0].qname).decode("ascii").rstrip(".")
        ours = message.id == identifier and message.qr == 1 and question.lower() == name.lower()
        code = int(message.rcode)
        records = [] if message.tc else [message.an[index] for index in range(message.ancount)]
        found = [_record(bytes(record.rdata)) for record in records if record.type == _CAA]
    except Exception as error:
        raise Unreadable("the nameserver's answer makes no sense") from error
    if not ours:
        raise Unreadable("the nameserver answered another question")
    if code not in (_NO_ERROR, _NO_SUCH_NAME):
        raise Unreadable(f"the nameserver could not answer (code {code})")
    return bool(message.tc), found


def _record(data: bytes) -> Caa:
    """Read a record's data: an octet of flags, the tag's length, the tag, the value."""
    length = data[1]
    tag, value = data[2 : 2 + length], data[2 + length :]
    if len(tag) < length or not tag:
        raise ValueError("a CAA record without its tag")
    return Caa(tag.decode("ascii").lower(), value.decode("ascii", errors="backslashreplace"))
