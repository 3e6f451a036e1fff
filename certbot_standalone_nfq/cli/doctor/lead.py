"""Whether the dns-01 challenge of a name is looked up at this machine."""

from __future__ import annotations

from collections.abc import Iterator

from certbot_standalone_nfq.cli.doctor.finding import Finding, Status, failed, passed, warned
from certbot_standalone_nfq.wire.addresses import is_address

_CHECK = "DNS"
_DNS_SECONDS = 2.5


def findings(name: str) -> Iterator[Finding]:
    """Yield where the challenge is looked up, and what is wrong with that."""
    if is_address(name):
        yield failed(_CHECK, f"{name}: dns-01 cannot validate addresses.", "Use http-01.")
        return
    try:
        from certbot_standalone_nfq.host.dns.lead import leads
    except ImportError as error:  # pip's --no-deps leaves it out
        yield warned(_CHECK, f"{name}: dnspython cannot be loaded: {error}.", "Install dnspython.")
        return
    for lead in leads([name], _DNS_SECONDS).values():
        if lead.error:
            yield failed(_CHECK, lead.error.cause, lead.error.cure)
        elif lead.seen:
            yield passed(_CHECK, lead.seen)
        for words in (*lead.warnings, *lead.remarks):
            yield Finding(_CHECK, Status.WARN, words)
