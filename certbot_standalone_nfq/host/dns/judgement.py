"""Whether a challenge can be answered where its path ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dns.name

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.addresses import own_addresses
from certbot_standalone_nfq.host.dns import words
from certbot_standalone_nfq.host.dns.path import Path
from certbot_standalone_nfq.host.dns.questions import Questions, Unreadable
from certbot_standalone_nfq.host.dns.whereabouts import Whereabouts, is_here, is_translated, whereabouts
from certbot_standalone_nfq.wire.addresses import VERSIONS

_LABELS_OF_REGISTRIES = 2
"""Zones with so many labels at most, the root's included, are not their users' own."""
_HOST = "acme-dns"
"""A label for this machine as a name server, if it has no name."""


@dataclass(frozen=True)
class Lead:
    """What came of following the path of one name's challenge."""

    owner: str
    """The name to answer at: the challenge's own, or what that is an alias of. Without a dot at its end."""
    seen: str = ""
    """Where it is looked up, if that is known."""
    error: errors.Error | None = None
    """Why the challenge cannot succeed."""
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is not known, and need not be wrong."""


class Judge:
    """Judges one path."""

    def __init__(self, path: Path, base: dns.name.Name, questions: Questions) -> None:
        """Take the path of the challenge for a name, and a way to ask more."""
        self._path = path
        self._base = base
        self._questions = questions
        end = path.end
        self._zone = end.zone
        self._owner = _text(end.name)
        self._alias_of = _text(path.stops[0].name) if len(path.stops) > 1 else ""
        self._where = whereabouts(end.zone, questions)

    def judge(self) -> Lead:
        """Return what the user has to know."""
        if self._path.circle:
            return Lead(self._owner, error=words.circle([_text(stop.name) for stop in self._path.stops]))
        here, perhaps = self._servers(Whereabouts.HERE), self._servers(Whereabouts.PERHAPS)
        others = self._servers(Whereabouts.ELSEWHERE)
        if not here and not perhaps:
            return self._elsewhere(others)
        if self._zone.signed and (self._path.end.confirmed or not (others or perhaps)):
            return Lead(self._owner, error=self._signed())
        if others:
            return Lead(self._owner, warnings=(self._some(others),))
        if perhaps:
            return self._perhaps(perhaps)
        return Lead(self._owner, seen=words.here(self._owner, self._alias_of, here))

    def _elsewhere(self, others: Sequence[str]) -> Lead:
        if not self._path.end.confirmed:
            servers = others or [server.name for server in self._zone.servers]
            if not servers:
                return Lead(self._owner, warnings=(words.unknown(self._owner, "no name server was found"),))
            return Lead(self._owner, warnings=(words.unconfirmed(self._owner, self._alias_of, servers),))
        if len(self._zone.name.labels) <= _LABELS_OF_REGISTRIES:
            return Lead(self._owner, error=words.nowhere(self._owner, self._alias_of))
        return Lead(self._owner, error=words.elsewhere(self._owner, self._alias_of, others, self._cure()))

    def _signed(self) -> errors.Error:
        if self._is_cut:
            return words.signed_delegation(self._owner, self._alias_of)
        return words.signed(self._owner, self._alias_of, self._records(), _text(self._zone.name))

    def _some(self, others: Sequence[str]) -> str:
        share = list(self._where.values()).count(Whereabouts.ELSEWHERE), len(self._where)
        return words.some_elsewhere(self._owner, self._alias_of, others, share, self._cure())

    def _perhaps(self, servers: Sequence[str]) -> Lead:
        unknown = [each for each, where in self._where.items() if where is Whereabouts.PERHAPS]
        if all(map(is_translated, unknown)):
            return Lead(self._owner, remarks=(words.translated(self._owner, self._alias_of, servers),))
        return Lead(
            self._owner, warnings=(words.perhaps(self._owner, self._alias_of, servers, f"Otherwise: {self._cure()}"),)
        )

    def _servers(self, where: Whereabouts) -> list[str]:
        """Return the name servers with addresses of this kind."""
        found = {
            server.name: [address for address in server.addresses if self._where[address] is where]
            for server in self._zone.servers
        }
        return [f"{name} ({', '.join(addresses)})" for name, addresses in found.items() if addresses]

    @property
    def _is_cut(self) -> bool:
        """Whether the name is a zone of its own."""
        return bool(self._zone.name == self._path.end.name)

    def _cure(self) -> str:
        if self._is_cut:
            return words.replace(self._owner, self._records())
        return words.add(_text(self._zone.name), self._records())

    def _records(self) -> str:
        """Return the records that delegate the name to this machine."""
        base, own = _text(self._base), _public()
        if self._is_this_machine(self._base, certainly=True) or (not own and self._is_this_machine(self._base)):
            return words.delegation(self._owner, base)
        above = self._zone.name.parent() if self._is_cut else self._zone.name
        return words.delegation(self._owner, f"{_HOST}.{_text(above)}", own or ["THIS-MACHINE'S-PUBLIC-ADDRESS"])

    def _is_this_machine(self, name: dns.name.Name, certainly: bool = False) -> bool:
        """Whether a name has addresses, all of this machine, and is no alias, which no NS record may name."""
        addresses: list[str] = []
        for kind in ("A", "AAAA"):
            try:
                found = self._questions.resolve(name, kind)
            except Unreadable:
                continue
            if found and found.canonical_name != name:
                return False
            addresses += [record.address for record in found or ()]
        return bool(addresses) and all(is_here(each) or (not certainly and is_translated(each)) for each in addresses)


def _public() -> list[str]:
    """Return an address of each IP version by which others may reach this machine."""
    found = ([own for own in own_addresses(version) if not resolver.is_private(own)] for version in VERSIONS)
    return [addresses[0] for addresses in found if addresses]


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
