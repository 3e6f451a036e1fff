"""The path by which resolvers look a challenge up: zones, their name servers, aliases.

The challenge's name itself, and what it is an alias of, are asked for at name servers only. A resolver would keep
that there is no such name, and a CA that shares it would be told so later. Of names above, resolvers may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import dns.rrset

from certbot_standalone_nfq.host.dns.questions import Questions, Unreadable

_MAX_ALIASES = 8
_MAX_CUTS = 8
_MAX_SERVERS = 13
_MAX_ASKED = 3
"""Addresses that are asked the same before it counts as not answered."""

IsHere = Callable[[str], bool]
"""Whether an address is certainly this machine's."""


@dataclass(frozen=True)
class Server:
    """A name server, and its addresses as found in the DNS."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Zone:
    """A zone, and who answers for it."""

    name: dns.name.Name
    servers: tuple[Server, ...]
    signed: bool
    """Whether resolvers that validate refuse unsigned answers (DNSSEC)."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses of its name servers."""
        return tuple(dict.fromkeys(address for server in self.servers for address in server.addresses))


@dataclass(frozen=True)
class Stop:
    """A name on the path, and the zone that has it."""

    name: dns.name.Name
    zone: Zone
    confirmed: bool
    """Whether a name server of the zone has said that it goes on to no other zone from there."""


@dataclass(frozen=True)
class Path:
    """The names by which a challenge is looked up: its own, then what that is an alias of."""

    stops: tuple[Stop, ...]
    circle: bool = False
    """Whether the aliases do not end."""

    @property
    def end(self) -> Stop:
        """Where the answer has to be."""
        return self.stops[-1]


def follow(name: dns.name.Name, questions: Questions, is_here: IsHere) -> Path:
    """Follow the path from a challenge's name. Raises Unreadable if nothing can be looked up."""
    questions.want_authentication()
    stops: list[Stop] = []
    following: dns.name.Name | None = name
    while following is not None:
        if len(stops) > _MAX_ALIASES or following in [stop.name for stop in stops]:
            return Path(tuple(stops), circle=True)
        try:
            stop, alias = _Descent(following, questions, is_here).run()
        except Unreadable:
            if not stops:
                raise
            stop, alias = Stop(following, Zone(dns.name.root, (), signed=False), confirmed=False), None
        stops.append(stop)
        following = alias
    return Path(tuple(stops))


class _Descent:
    """Goes down, from the nearest zone that resolvers know, to the one that has a name."""

    def __init__(self, name: dns.name.Name, questions: Questions, is_here: IsHere) -> None:
        self._name = name
        self._questions = questions
        self._is_here = is_here

    def run(self) -> tuple[Stop, dns.name.Name | None]:
        """Return where it ends, and what the name is an alias of there. Raises Unreadable."""
        zone = self._enclosing_zone()
        for _ in range(_MAX_CUTS):
            if not zone.signed and zone.addresses and all(map(self._is_here, zone.addresses)):
                return Stop(self._name, zone, confirmed=True), None  # whatever the zone says, this machine answers
            reply = self._ask(zone)
            if reply is None:
                return Stop(self._name, zone, confirmed=False), None
            alias = _alias(reply, self._name)
            if alias:
                return Stop(self._name, zone, confirmed=True), alias
            below = self._delegated(reply, zone)
            if not below:
                return Stop(self._name, zone, confirmed=True), None
            zone = below
        return Stop(self._name, zone, confirmed=False), None

    def _enclosing_zone(self) -> Zone:
        """Return the nearest zone above the name that resolvers know of."""
        owner = self._name.parent()
        trouble: Unreadable | None = None
        while True:
            try:
                apex = _apex(self._questions.resolve(owner, "SOA"), owner)
                servers = self._questions.resolve(owner, "NS") if apex == owner else None
                if servers and servers.rrset:
                    return self._zone(owner, servers.rrset, signed=_is_authentic(servers) or self._is_signed(owner))
            except Unreadable as error:
                trouble, apex = trouble or error, None  # the zone does not answer; one above may say where it is
            if owner == dns.name.root or self._questions.is_over:
                raise trouble or Unreadable("no zone was found")
            owner = apex if apex and apex != owner else owner.parent()

    def _is_signed(self, zone: dns.name.Name) -> bool:
        """Whether a zone and all above it have DS records, as resolvers that do not validate tell it."""
        while zone != dns.name.root:
            found = self._questions.resolve(zone, "DS")
            if found and found.rrset:
                zone = zone.parent()
            elif found and _apex(self._questions.resolve(zone, "SOA"), zone) != zone:
                zone = zone.parent()  # no zone of its own
            else:
                return False
        return True

    def _zone(self, name: dns.name.Name, records: dns.rrset.RRset, signed: bool, glue: _Glue | None = None) -> Zone:
        names = [record.target for record in records][:_MAX_SERVERS]
        return Zone(name, tuple(self._server(each, glue or {}) for each in names), signed)

    def _server(self, name: dns.name.Name, glue: _Glue) -> Server:
        addresses = glue.get(name, ())
        if not addresses and not name.is_subdomain(self._name):
            addresses = tuple(self._addresses(name))
        return Server(name.to_text(omit_final_dot=True), addresses)

    def _addresses(self, name: dns.name.Name) -> Iterator[str]:
        for kind in ("A", "AAAA"):
            try:
                found = self._questions.resolve(name, kind)
            except Unreadable:
                continue
            yield from (record.address for record in found or ())

    def _ask(self, zone: Zone) -> dns.message.Message | None:
        """Return what a name server of a zone says of the name; other machines' are asked first."""
        for address in sorted(zone.addresses, key=self._is_here)[:_MAX_ASKED]:
            reply = self._questions.ask(address, self._name, "NS")
            if reply and (reply.flags & dns.flags.AA or _referral(reply, self._name, zone.name)):
                return reply
        return None

    def _delegated(self, reply: dns.message.Message, zone: Zone) -> Zone | None:
        """Return the zone that a reply refers to."""
        found = _referral(reply, self._name, zone.name)
        if not found:
            return None
        return self._zone(found.name, found, zone.signed and self._has_ds(reply, found.name, zone), _glue(reply))

    def _has_ds(self, reply: dns.message.Message, cut: dns.name.Name, zone: Zone) -> bool:
        """Whether a delegation is signed; a server that has both zones tells it only if asked."""
        if not reply.flags & dns.flags.AA:
            return any(each.rdtype == dns.rdatatype.DS for each in reply.authority)
        answers = (self._questions.ask(address, cut, "DS") for address in zone.addresses[:_MAX_ASKED])
        return any(each.rdtype == dns.rdatatype.DS for answer in answers if answer for each in answer.answer)


_Glue = dict[dns.name.Name, tuple[str, ...]]


def _apex(answer: dns.resolver.Answer | None, name: dns.name.Name) -> dns.name.Name | None:
    """Return the zone that an answer about a name's SOA shows, if it does: it may be an alias's."""
    if answer is None:
        return None
    if answer.rrset and answer.canonical_name == name:
        return name
    if answer.canonical_name != name:
        return None
    zones = [each.name for each in answer.response.authority if each.rdtype == dns.rdatatype.SOA]
    return next((zone for zone in zones if name.is_subdomain(zone)), None)


def _is_authentic(answer: dns.resolver.Answer) -> bool:
    return bool(answer.response.flags & dns.flags.AD)


def _alias(reply: dns.message.Message, name: dns.name.Name) -> dns.name.Name | None:
    for records in reply.answer:
        if records.rdtype == dns.rdatatype.CNAME and records.name == name:
            target: dns.name.Name = records[0].target
            return target
    return None


def _referral(reply: dns.message.Message, name: dns.name.Name, above: dns.name.Name) -> dns.rrset.RRset | None:
    """Return the NS records of a zone below another, towards a name."""
    for records in (*reply.answer, *reply.authority):
        cut = records.name
        if records.rdtype == dns.rdatatype.NS and name.is_subdomain(cut) and cut.is_subdomain(above) and cut != above:
            return records
    return None


def _glue(reply: dns.message.Message) -> _Glue:
    found: _Glue = {}
    for records in reply.additional:
        if records.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            found[records.name] = found.get(records.name, ()) + tuple(record.address for record in records)
    return found
