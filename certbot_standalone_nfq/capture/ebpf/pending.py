"""The keys of pending challenges, in the map where programs look them up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from certbot_standalone_nfq.capture.ebpf.layout import PENDING, REST_BYTES
from certbot_standalone_nfq.capture.ebpf.maps import NAME_BYTES
from certbot_standalone_nfq.capture.ebpf.system import Map
from certbot_standalone_nfq.engine.protocols import Selector

_NEVER = 0xFFFF
"""More bytes than a packet has."""


class Pending:
    """What a map holds of what is pending. For one thread at a time."""

    def __init__(self, map_: Map, selectors: Sequence[Selector]) -> None:
        """Begin with an empty map; the selectors say how many bytes of a key decide."""
        self._map = map_
        self._lengths = {selector.key.length for selector in selectors if selector.key}
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
        found: dict[bytes, bytes] = {}
        for length in self._lengths:
            for key in keys:
                name = key[:length].ljust(NAME_BYTES, b"\0")
                rest = key[:REST_BYTES]
                # Where two keys begin alike, their beginning alone decides.
                needed = _NEVER if name in found else len(rest)
                found[name] = PENDING.pack(needed, rest, b"\xff" * len(rest))
        return found
