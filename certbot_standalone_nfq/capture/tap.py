"""A packet socket that sees a port's segments ahead of any firewall rule, if they may explain a failure.

A filter in the kernel passes those that open, refuse or close a connection, and those that selectors match whole;
with `replies`, also those that begin like an answer to them. It sees packets as they come in and go out on every
interface. What is forwarded is seen where it enters and where its answer leaves.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.bpf.assembler import Code, Instruction, Line, assemble
from certbot_standalone_nfq.capture.bpf.extensions import asks_for
from certbot_standalone_nfq.capture.bpf.selector import compare_datagram, compare_whole
from certbot_standalone_nfq.capture.protocols import port_of
from certbot_standalone_nfq.diagnosis.attempts import TappedSegment
from certbot_standalone_nfq.diagnosis.queries import TappedDatagram
from certbot_standalone_nfq.engine.protocols import Field, Selector, Transport
from certbot_standalone_nfq.wire import udp
from certbot_standalone_nfq.wire.ip import MalformedPacket
from certbot_standalone_nfq.wire.tcp import Connection, connection_of, locate, read_control

_ETH_P_ALL = 0x0003
_PACKET_OTHERHOST = 3
_PACKET_OUTGOING = 4  # include/uapi/linux/if_packet.h
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23  # since Linux 4.20
_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h, as is the next
_SO_TIMESTAMPNS = 35
_SKF_AD_PKTTYPE = 0xFFFFF000 + 4  # include/uapi/linux/filter.h
_FRAGMENT_OFFSET = 0x1FFF
_FIN, _SYN, _RST = 1, 2, 4
_RECEIVE_BUFFER = 1 << 20
_LONGEST = 0xFFFF + 40
"""Bytes of the longest packet: of IPv6, whose length does not count the header."""
_SEE_CONTROL: tuple[Line, ...] = (
    Instruction(Code.LDH_IND, 12),  # TCP's header length and flags at once: every packet of the port's comes here
    Instruction(Code.JSET, _FIN | _SYN | _RST, "seen"),
)
_TO_PAYLOAD: tuple[Line, ...] = (
    Instruction(Code.AND, 0xF000),
    Instruction(Code.RSH, 12 - 2),  # the length is in words
    Instruction(Code.ADD_X),
    Instruction(Code.TAX),
)
"""Moves X from where the TCP header begins to where it ends, behind what sees control segments."""
_SNAPSHOT = 2048
"""Bytes that are copied of a packet: a whole frame of Ethernet."""
_HTTP = ((Field(0, b"HTTP"),),)
_TLS = ((Field(0, b"\x16\x03"),), (Field(0, b"\x15\x03"),))
"""A record of a handshake, or of an alert: RFC 8446, 5.1."""


class Tap:
    """A packet socket for one TCP port, on all interfaces."""

    def __init__(self, selectors: Sequence[Selector], *, replies: bool = False, thorough: bool = False) -> None:
        """Show what comes in; with `thorough` or `replies`, also what goes out, and the kernel's time of each segment.

        Raises errors.NotPermitted or OSError.
        The kernel clones every outgoing packet of the machine for a socket that sees them, and takes the time of every
        incoming packet if one socket asks for it. Both cost bystanders something, so neither is the default.
        """
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        except PermissionError as error:
            raise errors.may_not_watch() from error
        _attach(self._socket, program(selectors, replies=replies))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        thorough = thorough or replies
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, not thorough)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, thorough)
        self._socket.setblocking(False)
        self._port = port_of(selectors)

    def look_outside(self) -> None:
        """Show what goes out as well, from now on."""
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 0)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def receive(self, limit: int) -> list[TappedSegment | TappedDatagram]:
        """Return what has been seen, at most `limit` packets, without waiting."""
        found = []
        for _ in range(limit):
            try:
                packet, ancillary, _, address = self._socket.recvmsg(_SNAPSHOT, 64)
            except BlockingIOError:
                break
            seen = self._read(packet, address, _time(ancillary))
            if seen:
                found.append(seen)
        return found

    def missed(self) -> int:
        """Return how many packets have not fitted the buffer since the last call."""
        return int(struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read(
        self, packet: bytes, address: tuple[str, int, int, int, bytes], when: float
    ) -> TappedSegment | TappedDatagram | None:
        interface, _, kind, *_ = address
        if udp.is_udp(packet):
            return self._read_datagram(packet, interface, when)
        try:
            layout = locate(packet, length=_LONGEST)  # it may be cut, or one that a network card will cut up
        except MalformedPacket:
            return None
        connection = connection_of(packet, layout)
        if kind == _PACKET_OUTGOING:
            connection = Connection(connection.local, connection.local_port, connection.peer, connection.peer_port)
        if connection.local_port != self._port:
            return None  # it arrived between the socket's opening and the filter's
        seq, flags = read_control(packet, layout)
        return TappedSegment(
            connection,
            seq,
            flags,
            payload=packet[layout.payload : layout.end],
            outgoing=kind == _PACKET_OUTGOING,
            time=when,
            packet=packet,
            interface=interface,
        )

    def _read_datagram(self, packet: bytes, interface: str, when: float) -> TappedDatagram | None:
        try:
            seen = udp.parse(packet)
        except MalformedPacket:
            return None
        if seen.destination_port != self._port:
            return None
        ends = Connection(seen.source, seen.source_port, seen.destination, seen.destination_port)
        return TappedDatagram(ends, seen.payload, when, packet, interface)


def _time(ancillary: list[tuple[int, int, bytes]]) -> float:
    """Return when a packet was seen, in seconds since the epoch: now, if the kernel does not say."""
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("ll", value[: struct.calcsize("ll")])
            return float(seconds + nanoseconds / 1e9)
    return time.time()


def _attach(to: socket.socket, lines: list[Line]) -> None:
    """Let a socket receive only what a program accepts."""
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in assemble(lines))
    buffer = ctypes.create_string_buffer(program, len(program))  # the kernel copies it from there
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer)))


def program(selectors: Sequence[Selector], *, replies: bool) -> list[Line]:
    """Return the filter; the packet begins with its IP header. Raises ValueError if it cannot be made."""
    port = port_of(selectors)
    over_tcp, over_udp = ([each for each in selectors if each.transport is transport] for transport in Transport)
    return [
        *(_datagrams(port, over_udp) if over_udp else []),
        *_segments(port, over_tcp, replies=replies),
        "seen",
        Instruction(Code.RET, _SNAPSHOT),
        "other",
        Instruction(Code.RET, 0),
        *_handshakes(over_tcp),
    ]


def _segments(port: int, selectors: Sequence[Selector], *, replies: bool) -> list[Line]:
    beginnings = [alternative for selector in selectors if not selector.contains for alternative in selector.any_of]
    handshakes = [alternative for selector in selectors if selector.contains for alternative in selector.any_of]
    replying = _TLS if any(selector.by_server_name for selector in selectors) else _HTTP
    return [
        *_transport_offset(Transport.TCP, "other"),
        Instruction(Code.LD_ABS, _SKF_AD_PKTTYPE),
        Instruction(Code.JEQ, _PACKET_OUTGOING, "outgoing"),
        Instruction(Code.JEQ, _PACKET_OTHERHOST, "other"),
        Instruction(Code.LDH_IND, 2),
        Instruction(Code.JEQ, port, "", "other"),
        *_SEE_CONTROL,
        *_TO_PAYLOAD,
        *compare_whole(beginnings, _SNAPSHOT, handshakes),
        "outgoing",
        Instruction(Code.LDH_IND, 0),
        Instruction(Code.JEQ, port, "", "other"),
        *_SEE_CONTROL,
        *([*_TO_PAYLOAD, *compare_whole(replying, _SNAPSHOT)] if replies else [Instruction(Code.RET, 0)]),
    ]


def _handshakes(selectors: Sequence[Selector]) -> Iterator[Line]:
    """Yield the end of a program that looks further into what begins like a ClientHello."""
    wanted = {selector.contains for selector in selectors if selector.contains}
    if len(wanted) > 1 or any(selector.contains and not selector.by_server_name for selector in selectors):
        raise ValueError("a program can look for one thing only, and only in a ClientHello")
    for each in wanted:
        yield "further"
        yield from asks_for(each, _SNAPSHOT)


def _datagrams(port: int, selectors: Sequence[Selector]) -> list[Line]:
    """Return what decides on UDP, incoming only, and goes on behind itself with other protocols."""
    return [
        *_transport_offset(Transport.UDP, "no UDP"),
        Instruction(Code.LD_ABS, _SKF_AD_PKTTYPE),
        Instruction(Code.JEQ, _PACKET_OUTGOING, "other"),
        Instruction(Code.JEQ, _PACKET_OTHERHOST, "other"),
        Instruction(Code.LDH_IND, 2),
        Instruction(Code.JEQ, port, "", "other"),
        *compare_datagram((alternative for each in selectors for alternative in each.any_of), _SNAPSHOT),
        "no UDP",
    ]


def _transport_offset(transport: Transport, otherwise: str) -> list[Line]:
    """Leave where the header of a transport begins in X."""
    ipv4, found = f"IPv4 {transport.name}", transport.name
    return [
        Instruction(Code.LDB_ABS, 0),
        Instruction(Code.AND, 0xF0),
        Instruction(Code.JEQ, 0x40, ipv4),
        Instruction(Code.JEQ, 0x60, "", "other"),
        Instruction(Code.LDB_ABS, 6),
        Instruction(Code.JEQ, transport, "", otherwise),
        Instruction(Code.LDX_IMM, 40),
        Instruction(Code.JEQ, transport, found, "other"),  # always jumps: A still equals it
        ipv4,
        Instruction(Code.LDB_ABS, 9),
        Instruction(Code.JEQ, transport, "", otherwise),
        Instruction(Code.LDH_ABS, 6),
        Instruction(Code.JSET, _FRAGMENT_OFFSET, "other"),
        Instruction(Code.LDX_MSH, 0),
        found,
    ]
