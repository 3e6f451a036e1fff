"""Who takes connections to a port: sockets of this network namespace, and rules that lead them elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from certbot_standalone_nfq.host.firewall import rules as ruleset
from certbot_standalone_nfq.host.firewall.reader import Rules
from certbot_standalone_nfq.host.firewall.rules import Rule, Table
from certbot_standalone_nfq.host.sockets import Listener, listeners
from certbot_standalone_nfq.wire.addresses import VERSIONS, version_of


@dataclass(frozen=True)
class Service:
    """Who takes connections to the port: sockets of this namespace, and rules that lead them elsewhere."""

    port: int
    listeners: tuple[Listener, ...]
    translations: dict[int, Rule]
    """By IP version, the first of them."""

    def reachable(self, address: str) -> bool:
        """Tell whether connections to an address are taken, as far as can be seen."""
        version = version_of(address)
        return version in self.translations or any(listener.serves(address) for listener in self.listeners)

    def surely_reachable(self, address: str) -> bool:
        """Tell whether that does not hang on what a socket bound to [::] does with IPv4."""
        version = version_of(address)
        return version in self.translations or any(
            listener.version == version and listener.serves(address) for listener in self.listeners
        )

    def has(self, version: int) -> bool:
        """Tell whether connections by an IP version are taken at all, as far as can be seen."""
        return version in self.translations or any(
            not listener.loopback and (listener.version == version or (listener.anywhere and listener.version == 6))
            for listener in self.listeners
        )


def tables_of(rules: list[Rules]) -> list[Table]:
    """Return all tables that were shown."""
    return [table for shown in rules for table in shown.tables]


def service(port: int, rules: list[Rules]) -> Service:
    """Find out who takes connections to the port. Raises OSError."""
    found = {version: ruleset.translations(tables_of(rules), port, version) for version in VERSIONS}
    return Service(port, tuple(listeners(port)), {version: each[0] for version, each in found.items() if each})
