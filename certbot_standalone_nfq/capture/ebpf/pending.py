"""The keys of pending challenges, in the map where programs look them up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from certbot_standalone_nfq.capture.ebpf.layout import PENDING, REST_BYTES
from certbot_standalone_nfq.capture.ebpf.maps import NAME_BYTES
from certbot_standalone_nfq.capture.ebpf.server_names import CASE
from certbot_standalone_nfq.capture.ebpf.system import Map
from certbot_standalone_nfq.engine.protocols import Selector


class Pending:
    """What a map holds of what is pending. For one thread at a time."""

    def __init__(self, map_: Map, selectors: Sequence[Selector]) -> None:
        """Begin with an empty map; the selectors say how many bytes of a key decide."""
        self._map = map_
        self._lengths = {selector.key.length for selector in selectors if selector.key}
        self._by_name = any(each.by_server_name or each.by_question or each.by_host for each in selectors)
        self._held: dict[bytes, bytes] = {}

    def replace(self, keys: Collection[bytes]) -> None:
        """Have the map hold these keys and no others. Raises OSError."""
        wanted = self._entries(keys)
        for name in self._held.keys() - wanted.keys():
            self._map.discard(name)
        for name, value in wanted.items():
            if self._held.get(name) != value:
                self._map[name] = value
        self._held = wanted

    def _entries(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        entries: dict[bytes, bytes] = {}
        for key in keys:
            if self._by_name:
                entries[_folded(key)] = PENDING.pack(len(key), b"", b"")
            for length in self._lengths:
                name, rest = _name(key[:length]), key[:REST_BYTES]
                # Where two keys begin alike, their beginning alone decides.
                mask = b"" if name in entries else b"\xff" * len(rest)
                entries[name] = PENDING.pack(0, rest, mask)
        return entries


def _name(key: bytes) -> bytes:
    return key[:NAME_BYTES].ljust(NAME_BYTES, b"\0")


def _folded(key: bytes) -> bytes:
    """Return a name as the program looks it up, in whichever case it comes."""
    return bytes(byte | CASE for byte in _name(key))
