"""Whether the address of a name server leads to this machine."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import dns.flags

from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.addresses import own_addresses
from certbot_standalone_nfq.host.dns.path import Zone
from certbot_standalone_nfq.host.dns.questions import Questions
from certbot_standalone_nfq.wire.addresses import VERSIONS, version_of

_MAX_OWN = 4
"""Addresses of this machine that are asked whether a server here has a zone."""


class Whereabouts(enum.Enum):
    """What is known about an address."""

    HERE = enum.auto()
    """It is this machine's."""
    PERHAPS = enum.auto()
    """It is not, but something in front of this machine may forward queries."""
    ELSEWHERE = enum.auto()
    """Queries go to another machine."""


def is_here(address: str) -> bool:
    """Whether an address is certainly this machine's."""
    return bool(resolver.is_local(address))


def whereabouts(zone: Zone, questions: Questions) -> dict[str, Whereabouts]:
    """Return where the addresses of a zone's name servers lead.

    An address that this machine does not have may be translated to one that it has, by a router or a load balancer. So
    it leads to another machine for certain only if a server answers there, and none here does. If this machine has an
    address of some name server, a name server of which it has none is another machine.
    """
    own = {server for server in zone.servers if any(map(is_here, server.addresses))}
    has_zone = not own and _is_served_here(zone, questions)
    found: dict[str, Whereabouts] = {}
    for server in zone.servers:
        for address in server.addresses:
            perhaps = has_zone or (is_translated(address) and (server in own or not _answers(address, zone, questions)))
            found[address] = Whereabouts.PERHAPS if perhaps else Whereabouts.ELSEWHERE
    return {**found, **dict.fromkeys(filter(is_here, found), Whereabouts.HERE)}


def is_translated(address: str) -> bool:
    """Whether this machine may be reached by an address that it does not have."""
    return resolver.is_local(address) is None or resolver.is_translated(version_of(address))


def _is_served_here(zone: Zone, questions: Questions) -> bool:
    own: Sequence[str] = ["127.0.0.1", *(address for version in VERSIONS for address in own_addresses(version))]
    return any(_answers(address, zone, questions) for address in own[:_MAX_OWN])


def _answers(address: str, zone: Zone, questions: Questions) -> bool:
    """Whether a name server at an address is one of the zone."""
    reply = questions.ask(address, zone.name, "SOA")
    return bool(reply and reply.flags & dns.flags.AA and reply.answer)
