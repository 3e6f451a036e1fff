"""Parses the output of `nft --json list ruleset` (libnftables-json(5)). Runs no program."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
from collections.abc import Iterator
from typing import Any

from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host.firewall.rules import Effect, Hook, Rule, Table

_VERSIONS = {"ip": frozenset({4}), "ip6": frozenset({6}), "inet": frozenset({4, 6})}
_HOOKS = {"input": True, "prerouting": False}
_OF_IPTABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})
_EFFECTS = {
    "accept": Effect.ACCEPT,
    "drop": Effect.REFUSE,
    "reject": Effect.REFUSE,
    "dnat": Effect.TRANSLATE,
    "redirect": Effect.TRANSLATE,
    "snat": Effect.TRANSLATE_SOURCE,
    "masquerade": Effect.TRANSLATE_SOURCE,
    "return": Effect.LEAVE,
    "queue": Effect.DIVERT,
    "tproxy": Effect.DIVERT,
    "synproxy": Effect.SHAKE_HANDS,
    "notrack": Effect.UNTRACK,
}
_JUMPS = ("jump", "goto")
_HARMLESS = frozenset({"counter", "log", "comment"})
_PROTOCOL = {"meta": {"key": "l4proto"}}
_STATE = {"ct": {"key": "state"}}
_INCOMING = ({"meta": {"key": "iifname"}}, {"meta": {"key": "iif"}})
_PACKET_MARK, _CONNECTION_MARK = {"meta": {"key": "mark"}}, {"ct": {"key": "mark"}}
_MARKS = (_PACKET_MARK, _CONNECTION_MARK)
_ALL_BITS = 0xFFFF_FFFF
_EQUAL = ("==", "in")
_PROTOCOLS = ("tcp", "udp", "udplite", "icmp", "icmpv6", "sctp", "dccp", "esp", "ah", "comp", "igmp")
_PROTOCOL_FIELDS = (("ip", "protocol"), ("ip6", "nexthdr"))
_Key = tuple[str, str]


class _Ruleset:
    """The objects of a listing, by kind, and the transport whose packets meet its rules."""

    def __init__(self, listing: str, transport: Transport) -> None:
        self.transport = transport.name.lower()
        self._names = {self.transport, transport.value}
        items = json.loads(listing)["nftables"]
        self.chains: list[dict[str, Any]] = [item["chain"] for item in items if "chain" in item]
        self.rules: list[dict[str, Any]] = [item["rule"] for item in items if "rule" in item]
        self._elements = {
            (item[kind]["family"], item[kind]["table"], item[kind]["name"]): item[kind].get("elem", [])
            for item in items
            for kind in ("set", "map")
            if kind in item
        }

    def elements(self, rule: dict[str, Any], value: Any) -> list[Any]:
        """Return the elements of a set or map, anonymous or named after an @. Another value is one element."""
        if isinstance(value, str) and value.startswith("@"):
            return list(self._elements.get((rule["family"], rule["table"], value[1:]), []))
        if isinstance(value, dict) and "set" in value:
            return list(value["set"])
        return [value]

    def is_of_another_protocol(self, expression: Any) -> bool:
        """Whether an expression is a field of a protocol that is not the transport."""
        protocol = expression.get("payload", {}).get("protocol") if isinstance(expression, dict) else None
        return protocol in _PROTOCOLS and protocol != self.transport

    def names_transport(self, values: list[Any]) -> bool:
        """Whether the transport is among values, by its name or its number."""
        return not self._names.isdisjoint(_plain(values))

    def is_port(self, expression: Any) -> bool:
        """Whether an expression is the destination port of the transport, or of several with it."""
        if not isinstance(expression, dict):
            return False
        payload, tracked = expression.get("payload", {}), expression.get("ct", {})
        of_packet = payload.get("field") == "dport" and payload.get("protocol") in (self.transport, "th")
        return of_packet or (tracked.get("key") == "proto-dst" and tracked.get("dir") == "original")


def tables(listing: str, without_iptables: bool, transport: Transport = Transport.TCP) -> list[Table]:
    """Return all tables as packets over a transport meet them, optionally without those that iptables shows as its own.

    Those of families other than IP apply to no IP version. Raises ValueError, KeyError, TypeError or AttributeError if
    the listing is malformed.
    """
    ruleset = _Ruleset(listing, transport)
    names = dict.fromkeys((chain["family"], chain["table"]) for chain in ruleset.chains)
    return [_table(ruleset, key) for key in names if not (without_iptables and _is_of_iptables(ruleset, key))]


def _is_of_iptables(ruleset: _Ruleset, key: _Key) -> bool:
    """Whether a table is iptables-nft's: it has one of its names, and chains named after hooks in capitals."""
    hooks = [chain for chain in ruleset.chains if (chain["family"], chain["table"]) == key and "hook" in chain]
    return key[1] in _OF_IPTABLES and all(chain["name"] == chain["hook"].upper() for chain in hooks)


def _table(ruleset: _Ruleset, key: _Key) -> Table:
    hooks = [
        Hook(chain["name"], _HOOKS[chain["hook"]], chain.get("policy") == "drop")
        for chain in ruleset.chains
        if (chain["family"], chain["table"]) == key and chain.get("hook") in _HOOKS
    ]
    rules = [
        rule
        for listed in ruleset.rules
        if (listed["family"], listed["table"]) == key
        for rule in _rules(ruleset, listed)
    ]
    return Table(f"table {' '.join(key)} of nft", _VERSIONS.get(key[0], frozenset()), tuple(hooks), tuple(rules))


def _rules(ruleset: _Ruleset, listed: dict[str, Any]) -> Iterator[Rule]:
    """Yield a rule; one with a verdict map yields a rule for each element."""
    where = f"nft table {listed['family']} {listed['table']}, chain {listed['chain']}, handle {listed.get('handle')}"
    queue = next((statement["queue"] or {} for statement in listed["expr"] if "queue" in statement), None)
    rule = Rule(
        chain=listed["chain"],
        text=where,
        queues=None if queue is None else _queues(queue),
        bypass=queue is not None and "bypass" in queue.get("flags", []),
        marks=_marks(ruleset, listed),
        connection_marks=_connection_marks(listed["expr"]),
        ports=_ports(ruleset, listed),
        for_transport=_is_for_transport(ruleset, listed),
    )
    effects = list(_effects(ruleset, listed, rule))
    if effects or rule.queues or rule.marks or rule.connection_marks:
        yield from effects or [rule]


def _effects(ruleset: _Ruleset, listed: dict[str, Any], rule: Rule) -> Iterator[Rule]:
    """Yield the rule once for each effect that it has on the transport, with the ports that the effect applies to.

    Of a rule that does not apply to the transport, jumps alone are yielded.
    """
    rule = dataclasses.replace(rule, ports=(), unconditional=True, for_all=True)
    for statement in listed["expr"]:
        kind, content = next(iter(statement.items()))
        if kind == "match" and content["op"] in _EQUAL:
            rule = _under(ruleset, rule, content["left"], ruleset.elements(listed, content["right"]))
        elif kind == "match":
            rule = rule if content["left"] == _PROTOCOL else _under(ruleset, rule, None, [])
        elif kind == "vmap":
            for key, verdict in ruleset.elements(listed, content["data"]):
                some = dataclasses.replace(_under(ruleset, rule, content["key"], [key]), unconditional=False)
                yield from _with_effect(some, verdict)
            rule = _under(ruleset, rule, None, [])
        else:
            yield from _with_effect(rule, statement)
            rule = rule if kind in (*_HARMLESS, *_JUMPS, *_EFFECTS) else _under(ruleset, rule, None, [])


def _under(ruleset: _Ruleset, rule: Rule, left: Any, values: list[Any]) -> Rule:
    """Return a rule under one more condition: that something has one of some values."""
    if left == _PROTOCOL:
        return dataclasses.replace(rule, for_transport=rule.for_transport and ruleset.names_transport(values))
    possible = rule.for_transport and not ruleset.is_of_another_protocol(left)
    rule = dataclasses.replace(rule, unconditional=False, for_transport=possible)
    if ruleset.is_port(left):
        return dataclasses.replace(rule, ports=(*rule.ports, *_ranges(values)))
    if left == _STATE:
        arriving = not {"new", "untracked"}.isdisjoint(_plain(values))
        return dataclasses.replace(rule, for_arrivals=rule.for_arrivals and arriving, for_all=rule.for_all and arriving)
    if left in _INCOMING and values == ["lo"]:
        return dataclasses.replace(rule, for_arrivals=False, for_all=False)
    return dataclasses.replace(rule, for_all=False)


def _with_effect(rule: Rule, verdict: dict[str, Any]) -> Iterator[Rule]:
    """Yield a rule with an effect, if it has one: on the transport, or to jump."""
    kind, content = next(iter(verdict.items()))
    if kind in _JUMPS:
        yield dataclasses.replace(rule, target=content["target"], returns=kind != "goto")
    elif kind in _EFFECTS and rule.for_transport:
        yield dataclasses.replace(rule, effect=_EFFECTS[kind])


def _ranges(values: list[Any]) -> list[tuple[int, int]]:
    """Return the ranges of ports among a set's elements; an element may have a comment or a timeout."""
    found = []
    for value in values:
        bare = value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value
        if isinstance(bare, int):
            found.append((bare, bare))
        elif isinstance(bare, dict) and "range" in bare:
            first, last = bare["range"]
            found.append((int(first), int(last)))
    return found


def _queues(queue: dict[str, Any]) -> tuple[int, int] | None:
    """Return the numbers of a statement's queues, or None if they are computed."""
    number = queue.get("num", 0)
    if isinstance(number, dict) and "range" in number:
        first, last = number["range"]
        return int(first), int(last)
    return (number, number) if isinstance(number, int) else None


def _marks(ruleset: _Ruleset, listed: dict[str, Any]) -> int:
    """Return the bits of marks that a rule sets or asks for: all numbers in statements on marks, but for masks."""
    statements = [statement for statement in listed["expr"] if _is_on_marks(statement)]
    return functools.reduce(operator.or_, _numbers(ruleset, listed, statements), 0)


def _connection_marks(expression: Any) -> int:
    """Return the bits of connections' marks that are compared, overwritten or copied: all, unless there is a mask."""
    if isinstance(expression, list):
        return functools.reduce(operator.or_, map(_connection_marks, expression), 0)
    if not isinstance(expression, dict):
        return 0
    if expression == _CONNECTION_MARK:
        return _ALL_BITS
    if expression.get("key") == _CONNECTION_MARK and "value" in expression:
        return _overwritten(expression["value"])
    mask = _mask(expression)
    return _connection_marks(list(expression.values())) if mask is None else mask


def _mask(expression: Any) -> int | None:
    """Return the mask of a connection's mark under a mask, or None if this is something else."""
    operands = expression.get("&", []) if isinstance(expression, dict) else []
    return operands[1] if operands[:1] == [_CONNECTION_MARK] and isinstance(operands[1], int) else None


def _overwritten(value: Any) -> int:
    """Return the bits that setting a connection's mark to a value overwrites: all but those it keeps of its own."""
    mask = _mask(value)
    if mask is not None:
        return _ALL_BITS & ~mask
    kept, added = value.get("|", [None, None]) if isinstance(value, dict) else (None, None)
    if not isinstance(added, int):
        return _ALL_BITS
    return added if kept == _CONNECTION_MARK else added | _overwritten(kept)


def _is_for_transport(ruleset: _Ruleset, listed: dict[str, Any]) -> bool:
    """Whether packets over the transport can match."""
    return not any("match" in each and _excludes_transport(ruleset, listed, each["match"]) for each in listed["expr"])


def _excludes_transport(ruleset: _Ruleset, listed: dict[str, Any], match: dict[str, Any]) -> bool:
    left = match["left"]
    if ruleset.is_of_another_protocol(left):
        return True
    payload = left.get("payload", {}) if isinstance(left, dict) else {}
    if left != _PROTOCOL and (payload.get("protocol"), payload.get("field")) not in _PROTOCOL_FIELDS:
        return False
    return ruleset.names_transport(ruleset.elements(listed, match["right"])) != (match["op"] in _EQUAL)


def _plain(values: list[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, (str, int))]


def _ports(ruleset: _Ruleset, listed: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the transport's destination ports that a rule asks for."""
    matches = [each["match"] for each in listed["expr"] if "match" in each]
    if not _is_for_transport(ruleset, listed):
        return ()
    named = [match for match in matches if ruleset.is_port(match["left"]) and match["op"] in _EQUAL]
    return tuple(ports for match in named for ports in _ranges(ruleset.elements(listed, match["right"])))


def _is_on_marks(expression: Any) -> bool:
    if isinstance(expression, dict):
        return expression in _MARKS or any(map(_is_on_marks, expression.values()))
    return isinstance(expression, list) and any(map(_is_on_marks, expression))


def _numbers(ruleset: _Ruleset, listed: dict[str, Any], expression: Any) -> Iterator[int]:
    if isinstance(expression, int):
        yield expression
    elif isinstance(expression, str) and expression.startswith("@"):
        yield from _numbers(ruleset, listed, ruleset.elements(listed, expression))
    elif isinstance(expression, dict):
        for key, value in expression.items():
            if key != "len":  # of a prefix
                yield from _numbers(ruleset, listed, value[:1] if key == "&" else value)
    elif isinstance(expression, list):
        for operand in expression:
            yield from _numbers(ruleset, listed, operand)
