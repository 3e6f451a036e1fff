"""What is used of scapy, loaded so that it leaves the machine alone.

By itself, loading scapy reads all routes and interfaces, which takes minutes where there are tens of thousands of
routes, and makes folders and caches below the home folder. Headers and capture files need none of it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_STAND_INS: dict[str, dict[str, object]] = {
    "scapy.route": {},
    "scapy.route6": {},
    "scapy.main": {"SCAPY_CACHE_FOLDER": None, "_load": None},
    "scapy.libs.manuf": {"DATA": ""},
    "scapy.libs.bluetoothids": {"DATA": {}},
}
"""Modules of scapy 2.4.4 to 2.8 that are kept from being loaded, with what its other modules take from them."""
_NOT_NEEDED = "cryptography"
"""What scapy loads to find out whether it could encrypt, which takes 6 MB."""


@contextlib.contextmanager
def _confined() -> Iterator[None]:
    """Keep scapy from reading routes and interfaces and from writing caches. Afterwards, the real modules can load."""
    names = [name for name in _STAND_INS if name not in sys.modules]
    for name in names:
        sys.modules[name] = _module(name)
    if _NOT_NEEDED not in sys.modules:
        names.append(_NOT_NEEDED)
        sys.modules[_NOT_NEEDED] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        with _without_interfaces():
            yield
    finally:
        for name in names:
            del sys.modules[name]


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(_STAND_INS[name])
    return module


@contextlib.contextmanager
def _without_interfaces() -> Iterator[None]:
    """Let scapy's table of interfaces stay empty. scapy 2.4.4 has none."""
    interfaces = _interfaces()
    interfaces.reload = lambda: None
    try:
        yield
    finally:
        del interfaces.reload


def _interfaces() -> Any:
    try:
        return importlib.import_module("scapy.interfaces").conf.ifaces
    except ModuleNotFoundError:
        return ModuleType("scapy.interfaces")


with _confined():
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.utils import RawPcapWriter, checksum

__all__ = ["IP", "TCP", "IPv6", "RawPcapWriter", "checksum"]
