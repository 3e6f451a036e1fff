"""Who accepts connections to a port: sockets of this network namespace, and rules that redirect them."""

from __future__ import annotations

from dataclasses import dataclass

from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host.firewall import rules as ruleset
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import Rule
from certbot_standalone_nfq.host.sockets import Listener, listeners
from certbot_standalone_nfq.wire.addresses import VERSIONS, version_of


@dataclass(frozen=True)
class Service:
    """Who accepts connections to the port: sockets of this namespace, and rules that redirect them."""

    port: int
    listeners: tuple[Listener, ...]
    translations: dict[int, Rule]
    """The first of them for each IP version."""
    transport: Transport = Transport.TCP

    def reachable(self, address: str) -> bool:
        """Whether connections to an address are accepted. A socket bound to [::] is assumed to accept IPv4 too."""
        version = version_of(address)
        return version in self.translations or any(listener.serves(address) for listener in self.listeners)

    def surely_reachable(self, address: str) -> bool:
        """Like `reachable`, but without that assumption."""
        version = version_of(address)
        return version in self.translations or any(
            listener.version == version and listener.serves(address) for listener in self.listeners
        )

    def has(self, version: int) -> bool:
        """Whether connections over an IP version are accepted at all. The same is assumed of [::]."""
        return version in self.translations or any(
            not listener.loopback and (listener.version == version or (listener.anywhere and listener.version == 6))
            for listener in self.listeners
        )


def service(port: int, rules: Snapshot, transport: Transport = Transport.TCP) -> Service:
    """Return who accepts connections to the port, or receives datagrams. Raises OSError."""
    found = {version: ruleset.translations(rules.over(transport), port, version) for version in VERSIONS}
    translations = {version: each[0] for version, each in found.items() if each}
    return Service(port, tuple(listeners(port, transport)), translations, transport)
