"""Questions to the DNS: to the nameservers in /etc/resolv.conf, and to the name servers of a zone themselves."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.resolver

from certbot_standalone_nfq.host.command import Deadline

RESOLV_CONF = "/etc/resolv.conf"
_TRIES = 3
_DIRECT_SECONDS = 1.0
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (dns.exception.Timeout, "not in time"),
    (dns.message.Truncated, "truncated"),
    (dns.exception.DNSException, "malformed"),
    (EOFError, "connection closed"),
)
"""What is wrong with an answer, by the error that dnspython makes of it. The first that fits counts."""


class Unreadable(Exception):
    """There is no answer, or none that makes sense; why, in words."""


class Questions:
    """Asks for so many seconds in all.

    Reading a hostile answer can take minutes more with dnspython before 2.9: use it on a thread that may be left.
    """

    def __init__(self, seconds: float, resolv_conf: str = RESOLV_CONF, share: float = 1.0) -> None:
        """Read which nameservers to ask; one question may take this share of the time. Raises Unreadable."""
        self._resolver = _resolver(resolv_conf)
        self._resolver.timeout = seconds * share / _TRIES
        self._deadline = Deadline(seconds, step=seconds * share)

    def resolve(self, name: dns.name.Name, kind: str) -> dns.resolver.Answer | None:
        """Return what the system's nameservers say, perhaps without a record, or None if there is no such name.

        Raises Unreadable.
        """
        try:
            return self._resolver.resolve(
                name, kind, raise_on_no_answer=False, search=False, lifetime=self._deadline.for_step()
            )
        except dns.resolver.NXDOMAIN:
            return None
        except dns.exception.DNSException as error:
            servers = ", ".join(map(str, self._resolver.nameservers))
            failures = [failure[3] for failure in error.kwargs.get("errors", ())] or [error]
            reasons = ", ".join(dict.fromkeys(map(_reason, failures)))
            raise Unreadable(f"no usable answer from {servers} ({reasons})") from error

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return not self._deadline.remaining()

    def want_authentication(self) -> None:
        """Ask the nameservers to say of each answer whether they have authenticated it (RFC 6840, section 5.7)."""
        self._resolver.flags = dns.flags.RD | dns.flags.AD

    def ask(self, address: str, name: dns.name.Name, kind: str) -> dns.message.Message | None:
        """Return what a name server at an address says of what it has itself, or None. No cache hears of it."""
        seconds = min(_DIRECT_SECONDS, self._deadline.for_step())
        if not seconds:
            return None
        query = dns.message.make_query(name, kind, use_edns=0, want_dnssec=True, payload=1232)
        query.flags &= ~dns.flags.RD
        try:
            return dns.query.udp_with_fallback(query, address, timeout=seconds)[0]
        except (dns.exception.DNSException, OSError, EOFError):
            return None


def absolute(name: str) -> dns.name.Name:
    """Return a name as dnspython has it. Raises Unreadable."""
    try:
        return dns.name.Name([*name.rstrip(".").encode("idna").split(b"."), b""])
    except (dns.exception.DNSException, UnicodeError) as error:
        raise Unreadable("it is not a domain name") from error


def _resolver(resolv_conf: str) -> dns.resolver.Resolver:
    try:
        return dns.resolver.Resolver(resolv_conf)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]  # what resolv.conf(5) says of a file that names none
        return resolver
    except (dns.exception.DNSException, ValueError) as error:
        raise Unreadable(f"{resolv_conf} cannot be used ({error})") from error


def _reason(failure: Exception | str) -> str:
    """Return what was wrong with one answer, for which dnspython has an error or the name of a response code."""
    for kind, reason in _REASONS:
        if isinstance(failure, kind):
            return reason
    return (failure.strerror if isinstance(failure, OSError) else str(failure)) or type(failure).__name__
