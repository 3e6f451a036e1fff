"""A program whose sockets of one kind are refused, as filters of system calls do it.

python -m lab.seccomp ERRNO FAMILY PROTOCOL COMMAND...    (a PROTOCOL of -1 means any)
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2  # include/uapi/linux/prctl.h, seccomp.h
_SOCKET = 41 if platform.machine() == "x86_64" else 198  # socket(2), here and in include/uapi/asm-generic/unistd.h
_NUMBER, _FIRST, _THIRD = 0, 16, 32  # offsets in struct seccomp_data, of arguments their low halves
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # include/uapi/linux/bpf_common.h
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(error: int, family: int, protocol: int) -> None:
    """Let this process, and all it becomes and starts, not open a kind of socket."""
    wanted = [(_NUMBER, _SOCKET), (_FIRST, family)] + ([(_THIRD, protocol)] if protocol >= 0 else [])
    code = []
    for index, (offset, value) in enumerate(wanted):
        to_allow = 2 * (len(wanted) - index - 1) + 1
        code += [(_LOAD, 0, 0, offset), (_JUMP_IF_EQUAL, 0, to_allow, value)]
    code += [(_RETURN, 0, 0, _ERRNO | error), (_RETURN, 0, 0, _ALLOW)]
    program = _Program(len(code), b"".join(struct.pack("=HBBI", *instruction) for instruction in code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(*(int(argument) for argument in sys.argv[1:4]))
    os.execvp(sys.argv[4], sys.argv[4:])
