"""What speaks against rules for NFQUEUE here, and so for a way to capture that needs no connection tracking."""

from __future__ import annotations

import re
from collections.abc import Iterator

from certbot_standalone_nfq.host import claims, tracking
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import Effect, Rule

AHEAD_OF_RULES = "ahead of rules"
"""What a service claims that answers any token, together with its port, if rules see no packet before it."""
_NAMES_SOURCE = re.compile(r" -s | saddr ")
_WORDS = {
    Effect.UNTRACK: "a rule exempts connections from being tracked",
    Effect.SHAKE_HANDS: "a rule answers in the server's place",
}


def objections(port: int, snapshot: Snapshot) -> Iterator[str]:
    """Yield reasons, in words that complete 'as ...', given the rules of other programs."""
    if claims.is_claimed(AHEAD_OF_RULES, str(port)):
        yield "a service on this machine answers any token ahead of rules"
    for listing in snapshot.listings:
        if not listing.complete:
            yield f"the rules that {listing.program} shows could not be read"
    for rule in snapshot.rules:
        if rule.effect in _WORDS and not rule.passes_by(port):
            yield f"{_WORDS[rule.effect]}: {rule.text}"
    for rule in _translating_clients(snapshot, port):
        yield f"a rule translates clients' addresses: {rule.text}"
    if not tracking.in_use():
        yield "no connections are tracked here"


def _translating_clients(snapshot: Snapshot, port: int) -> list[Rule]:
    """Return the rules that may give a port's clients another address, on their way to where the port is redirected.

    Those that name the sources they are for, as for what containers send, are for others.
    """
    rules = snapshot.rules
    if not any(rule.effect is Effect.TRANSLATE and rule.names(port) for rule in rules):
        return []
    return [rule for rule in rules if rule.effect is Effect.TRANSLATE_SOURCE and not _NAMES_SOURCE.search(rule.text)]
