"""The plugin for a user with capabilities that are not ambient, as by `setcap` on python: programs get none of them."""

from __future__ import annotations

import ctypes
import os
import runpy
import struct

_NOBODY = 65534
_PR_SET_KEEPCAPS = 8  # include/uapi/linux/prctl.h
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_DAC_READ_SEARCH, _NET_ADMIN, _NET_RAW = 2, 12, 13
_libc = ctypes.CDLL(None, use_errno=True)


def _require(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "capabilities")


def _become_nobody_with(*capabilities: int) -> None:
    _require(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    bits = sum(1 << capability for capability in capabilities)
    _require(_libc.capset(struct.pack("=Ii", _VERSION, 0), struct.pack("=6I", bits, bits, 0, 0, 0, 0)))


if __name__ == "__main__":
    _become_nobody_with(_DAC_READ_SEARCH, _NET_ADMIN, _NET_RAW)
    runpy.run_module("lab.plugin", run_name="__main__")
