"""The system call bpf(2), by ctypes: programs and maps.

Attributes are those of union bpf_attr, include/uapi/linux/bpf.h, in the machine's byte order. Descriptors that it
returns are closed when a program that is started takes this one's place.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import struct

_LONGEST_LOG = 1 << 20
_NAME_BYTES = 16
_NUMBERS = {
    ("aarch64", 64): 280,
    ("loongarch64", 64): 280,
    ("ppc64", 64): 361,
    ("ppc64le", 64): 361,
    ("riscv64", 64): 280,
    ("s390x", 64): 351,
    ("x86_64", 64): 321,
    ("aarch64", 32): 386,
    ("armv6l", 32): 386,
    ("armv7l", 32): 386,
    ("i586", 32): 357,
    ("i686", 32): 357,
    ("x86_64", 32): 357,
}
"""Of the call, by what uname(2) calls the machine, and the bits of this program's addresses."""
_ADDRESS_BITS = 8 * ctypes.sizeof(ctypes.c_void_p)
_libc = ctypes.CDLL(None, use_errno=True)


class Command(enum.IntEnum):
    """What to do: enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    PROG_LOAD = 5
    PROG_TEST_RUN = 10
    PROG_QUERY = 16
    LINK_CREATE = 28


class MapType(enum.IntEnum):
    """enum bpf_map_type, those that we use."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    RINGBUF = 27


class Rejected(OSError):
    """The verifier rejected a program: the log is its last lines."""

    def __init__(self, error: OSError, log: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.log = log


_PROG_TYPE_SCHED_CLS = 3
_LICENSE = b"Dual MIT/GPL"


def call(command: Command, attributes: bytes) -> int:
    """Make the call, and return what it returns: a descriptor, or 0. Raises OSError."""
    return call_with(command, ctypes.create_string_buffer(attributes, len(attributes)))


def call_with(command: Command, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """Make the call with attributes that the kernel may write to. Raises OSError."""
    number = _NUMBERS.get((platform.machine(), _ADDRESS_BITS))
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result = _libc.syscall(ctypes.c_long(number), int(command), ctypes.byref(attributes), len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    """Return where a buffer is, which must live until the call has returned; 0 for none."""
    return ctypes.addressof(buffer) if buffer else 0


def load_program(code: bytes, name: str) -> int:
    """Load a program for the traffic control hooks; return its descriptor. Raises OSError, or Rejected."""
    try:
        return _load(code, name, None)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS, errno.ENOMEM):
            raise
        log = ctypes.create_string_buffer(_LONGEST_LOG)
        try:
            return _load(code, name, log)
        except OSError as again:
            raise Rejected(again, log.value.decode(errors="replace")) from error


def _load(code: bytes, name: str, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(_LICENSE)
    attributes = struct.pack(
        f"=IIQQIIQII{_NAME_BYTES}s",
        *(_PROG_TYPE_SCHED_CLS, len(code) // 8, address(instructions), address(license_)),
        *(1 if log else 0, len(log) if log else 0, address(log), 0, 0),
        name.encode()[: _NAME_BYTES - 1],
    )
    return call(Command.PROG_LOAD, attributes)


class Map:
    """A map, until `close`. Keys and values are bytes, whose layout is the programs' business. Raises OSError."""

    def __init__(self, kind: MapType, key: int, value: int, entries: int) -> None:
        """Make a map, given the bytes of a key and of a value; of a ring, `entries` are its bytes."""
        self.value_bytes = value
        attributes = struct.pack(f"=7I{_NAME_BYTES}s", kind, key, value, entries, 0, 0, 0, b"standalone_nfq")
        self.descriptor = call(Command.MAP_CREATE, attributes)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Put a value in place."""
        self._call(Command.MAP_UPDATE_ELEM, key, ctypes.create_string_buffer(value, len(value)))

    def get(self, key: bytes) -> bytes | None:
        """Return a value, or None if there is none."""
        value = ctypes.create_string_buffer(self.value_bytes)
        return value.raw if self._found(Command.MAP_LOOKUP_ELEM, key, value) else None

    def discard(self, key: bytes) -> bool:
        """Remove a key; return whether it was there."""
        return self._found(Command.MAP_DELETE_ELEM, key, None)

    def close(self) -> None:
        """Close our descriptor: the map stays while a program uses it. Calling it again is no error."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def _found(self, command: Command, key: bytes, value: ctypes.Array[ctypes.c_char] | None) -> bool:
        try:
            self._call(command, key, value)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def _call(self, command: Command, key: bytes, value: ctypes.Array[ctypes.c_char] | None) -> None:
        buffer = ctypes.create_string_buffer(key, len(key))
        call(command, struct.pack("=I4xQQQ", self.descriptor, address(buffer), address(value), 0))
