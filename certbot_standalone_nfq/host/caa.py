"""The CAA records that hold for a name (RFC 8659), asked by dnspython of the nameservers in /etc/resolv.conf."""

from __future__ import annotations

from dataclasses import dataclass

import dns.name
from dns.rdtypes.ANY.CAA import CAA

from certbot_standalone_nfq.host.dns.questions import RESOLV_CONF, Questions, absolute


@dataclass(frozen=True)
class Caa:
    """A CAA record: what it is about, and to what effect."""

    tag: str
    value: str


def caa_records(name: str, seconds: float, resolv_conf: str = RESOLV_CONF) -> tuple[str, list[Caa]]:
    """Return the CAA records that hold for a name, and the name they were found at: it, or the nearest parent.

    Waits so many seconds at most, but see Questions. Raises Unreadable.
    """
    questions = Questions(seconds, resolv_conf)
    owner = absolute(name)
    while owner != dns.name.root:
        # At the name, or at what its CNAME records lead to.
        records = [_caa(record) for record in questions.resolve(owner, "CAA") or () if isinstance(record, CAA)]
        if records:
            return owner.to_text(omit_final_dot=True), records
        owner = owner.parent()
    return "", []


def _caa(record: CAA) -> Caa:
    return Caa(record.tag.decode("ascii").lower(), record.value.decode("ascii", errors="backslashreplace"))
