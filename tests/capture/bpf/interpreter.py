"""A classic BPF machine of our own, and the kernel's."""

from __future__ import annotations

import contextlib
import ctypes
import operator
import socket
import struct
from collections.abc import Iterator, Sequence

from certbot_standalone_nfq.capture.bpf.assembler import Assembled, Code

_SO_ATTACH_FILTER = 26
_PACKET_TYPE = 0xFFFFF004
_RELATIVE = {Code.LD_IND: 4, Code.LDH_IND: 2, Code.LDB_IND: 1}
_LOADS = {Code.LD_ABS: 4, Code.LDH_ABS: 2, Code.LDB_ABS: 1, Code.LDX_MSH: 1, **_RELATIVE}
_CONDITIONS = {Code.JEQ: operator.eq, Code.JGE: operator.ge, Code.JSET: operator.and_}
_BY_K = {Code.ADD: operator.add, Code.AND: operator.and_, Code.RSH: operator.rshift}
_BY_X = {Code.ADD_X: operator.add, Code.SUB_X: operator.sub}


def parse(bytecode: str) -> list[Assembled]:
    """Read a program in the notation of `-m bpf --bytecode`."""
    count, *lines = bytecode.split(",")
    program = [Assembled(*map(int, line.split())) for line in lines]
    assert len(program) == int(count)
    return program


def execute(program: Sequence[Assembled], packet: bytes, packet_type: int = 0) -> tuple[int, int]:
    """Return what a program returns for a packet, and how many instructions that took."""
    a = x = here = steps = 0
    while True:
        code, if_true, if_false, k = program[here]
        here, steps = here + 1, steps + 1
        if code == Code.RET:
            return k, steps
        if code in _CONDITIONS:
            here += if_true if _CONDITIONS[Code(code)](a, k) else if_false
            continue
        if code == Code.JA:
            here += k
            continue
        loaded = _load(packet, k + (x if code in _RELATIVE else 0), _LOADS.get(Code(code), 0), packet_type)
        if loaded is None:
            return 0, steps
        a, x = _step(code, k, a, x, loaded, len(packet))


def _load(packet: bytes, place: int, size: int, packet_type: int) -> int | None:
    if place == _PACKET_TYPE:
        return packet_type
    return int.from_bytes(packet[place : place + size], "big") if size == 0 or place + size <= len(packet) else None


def _step(code: int, k: int, a: int, x: int, loaded: int, length: int) -> tuple[int, int]:
    """Return A and X after an instruction that does not jump."""
    if code in _BY_K:
        return _BY_K[Code(code)](a, k) & 0xFFFFFFFF, x
    if code in _BY_X:
        return _BY_X[Code(code)](a, x) & 0xFFFFFFFF, x
    set_x = {Code.TAX: a, Code.LDX_IMM: k, Code.LDX_MSH: 4 * (loaded & 0xF)}
    if code in set_x:
        return a, set_x[Code(code)]
    return (length if code == Code.LD_LEN else loaded), x


class KernelFilter:
    """A Unix socket whose filter the kernel runs: there, too, a program is given bytes and their number."""

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)

    def attach(self, program: Sequence[Assembled]) -> None:
        """Run another program from now on."""
        instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
        buffer = ctypes.create_string_buffer(instructions)
        option = struct.pack("HP", len(program), ctypes.addressof(buffer))
        self._receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)

    def accepts(self, packet: bytes) -> bool:
        """Whether the program returns anything but 0."""
        self._sender.send(packet)
        try:
            self._receiver.recv(1)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


@contextlib.contextmanager
def kernel_filter() -> Iterator[KernelFilter]:
    with contextlib.closing(KernelFilter()) as opened:
        yield opened
