"""The rest of the internet, on one host: a signed root, a resolver that validates, and a CA that asks it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lab.dns import resolving
from lab.hosts import Host
from lab.nameservers import ZONE
from lab.pebble import Pebble, pebble
from lab.zones import ZoneFile, nsd, signed, unbound, zone

_AT_ROOT = "198.51.100.53"
_WITHOUT_CACHE = {"cache-max-negative-ttl": "0", "cache-max-ttl": "0"}


@contextlib.contextmanager
def internet(client: Host, server: Host, folder: Path, records: str, *further: ZoneFile) -> Iterator[Pebble]:
    """Run it on the client's host, with these records in the root zone, and zones beside it; yield the CA.

    The server's host, which asks the same resolver, is to serve its own zone, whose delegation is not signed.
    """
    client.run("ip", "address", "add", f"{_AT_ROOT}/24", "dev", "eth0")
    delegation = f"{ZONE}. 60 IN NS ns.{ZONE}.\nns.{ZONE}. 60 IN A {server.ipv4}\nns.{ZONE}. 60 IN AAAA {server.ipv6}\n"
    own = f"@ 60 IN NS ns.root.\nns.root. 60 IN A {_AT_ROOT}\n"
    root = signed(zone(".", own + delegation + records, "ns.root."), folder / "keys")
    with (
        nsd(client, folder / "root", _AT_ROOT, root, *further),
        unbound(client, folder / "resolver", client.ipv4, _AT_ROOT, root.ds, _WITHOUT_CACHE),
        resolving(server, client.ipv4),
        pebble(client, folder / "pebble", resolver=f"{client.ipv4}:53") as authority,
    ):
        yield authority
