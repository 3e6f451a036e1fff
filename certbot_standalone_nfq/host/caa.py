"""The CAA records that hold for a name (RFC 8659), asked by dnspython of the nameservers in /etc/resolv.conf."""

from __future__ import annotations

from dataclasses import dataclass

import dns.exception
import dns.message
import dns.name
import dns.resolver
from dns.rdtypes.ANY.CAA import CAA

from certbot_standalone_nfq.host.command import Deadline

_RESOLV_CONF = "/etc/resolv.conf"
_TRIES = 3
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (dns.exception.Timeout, "not in time"),
    (dns.message.Truncated, "truncated"),
    (dns.exception.DNSException, "malformed"),
    (EOFError, "connection closed"),
)
"""What is wrong with an answer, by the error that dnspython makes of it. The first that fits counts."""


class Unreadable(Exception):
    """There is no answer, or none that makes sense; why, in words."""


@dataclass(frozen=True)
class Caa:
    """A CAA record: what it is about, and to what effect."""

    tag: str
    value: str


def caa_records(name: str, seconds: float, resolv_conf: str = _RESOLV_CONF) -> tuple[str, list[Caa]]:
    """Return the CAA records that hold for a name, and the name they were found at: it, or the nearest parent.

    Waits so many seconds at most. Reading a hostile answer can take minutes more with dnspython before 2.9: call this
    on a thread that can be left behind. Raises Unreadable.
    """
    resolver = _resolver(resolv_conf)
    resolver.timeout = seconds / _TRIES
    deadline = Deadline(seconds)
    owner = _absolute(name)
    while owner != dns.name.root:
        records = _ask(resolver, owner, deadline)
        if records:
            return owner.to_text(omit_final_dot=True), records
        owner = owner.parent()
    return "", []


def _resolver(resolv_conf: str) -> dns.resolver.Resolver:
    try:
        return dns.resolver.Resolver(resolv_conf)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]  # what resolv.conf(5) says of a file that names none
        return resolver
    except (dns.exception.DNSException, ValueError) as error:
        raise Unreadable(f"{resolv_conf} cannot be used ({error})") from error


def _absolute(name: str) -> dns.name.Name:
    try:
        return dns.name.Name([*name.rstrip(".").encode("idna").split(b"."), b""])
    except (dns.exception.DNSException, UnicodeError) as error:
        raise Unreadable("it is not a domain name") from error


def _ask(resolver: dns.resolver.Resolver, owner: dns.name.Name, deadline: Deadline) -> list[Caa]:
    """Return the records at one name, or at what its CNAME records lead to."""
    try:
        answer = resolver.resolve(owner, "CAA", raise_on_no_answer=False, lifetime=deadline.remaining())
    except dns.resolver.NXDOMAIN:
        return []
    except dns.exception.DNSException as error:
        servers = ", ".join(map(str, resolver.nameservers))
        failures = [failure[3] for failure in error.kwargs.get("errors", ())] or [error]
        reasons = ", ".join(dict.fromkeys(map(_reason, failures)))
        raise Unreadable(f"no usable answer from {servers} ({reasons})") from error
    return [_caa(record) for record in answer if isinstance(record, CAA)]


def _reason(failure: Exception | str) -> str:
    """Return what was wrong with one answer, for which dnspython has an error or the name of a response code."""
    for kind, reason in _REASONS:
        if isinstance(failure, kind):
            return reason
    return (failure.strerror if isinstance(failure, OSError) else str(failure)) or type(failure).__name__


def _caa(record: CAA) -> Caa:
    return Caa(record.tag.decode("ascii").lower(), record.value.decode("ascii", errors="backslashreplace"))
