"""Whether a table surely refuses connections to a port: of any client, by any interface."""

from __future__ import annotations

from certbot_standalone_nfq.host.firewall.rules import Effect, Hook, Rule, Table


class _Unsure(Exception):
    """Some of the packets may get somewhere else first."""


def sure_refusal(table: Table, port: int) -> Rule | None:
    """Return the rule that names a port and refuses every connection to it, if no rule before it may let one pass."""
    for hook in table.hooks:
        rule = _first_of(table, hook, port)
        if rule and rule.names(port):
            return rule
    return None


def _first_of(table: Table, hook: Hook, port: int) -> Rule | None:
    try:
        return _follow(table, hook.chain, port)
    except _Unsure:
        return None


def _follow(table: Table, chain: str, port: int) -> Rule | None:
    """Return the rule that refuses all packets that enter a chain, or None if all leave it undecided.

    Raises _Unsure. The kernel accepts no circles.
    """
    for rule in table.rules:
        if rule.chain != chain or not _concerns(rule, port):
            continue
        if rule.effect not in (Effect.REFUSE, Effect.OTHER):
            raise _Unsure
        refusing = rule if rule.effect is Effect.REFUSE else _follow(table, rule.target, port)
        if refusing and rule.for_all:
            return refusing
        if not refusing and not rule.returns:
            raise _Unsure
    return None


def _concerns(rule: Rule, port: int) -> bool:
    """Whether the first packet of a connection to a port may match."""
    return rule.for_transport and rule.for_arrivals and (not rule.ports or rule.names(port))
