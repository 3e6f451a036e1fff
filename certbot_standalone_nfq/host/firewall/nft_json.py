"""The reading of what `nft --json list ruleset` prints (libnftables-json(5)). Nothing here runs a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

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
}
_HARMLESS = frozenset({"counter", "log", "comment"})
_PROTOCOL = {"meta": {"key": "l4proto"}}
_EQUAL = ("==", "in")
_Key = tuple[str, str]


class _Ruleset:
    """What was listed, taken apart."""

    def __init__(self, listing: str) -> None:
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
        """Return what is in a set or map, given in place or by its name after an @; a value is a set of its own."""
        if isinstance(value, str) and value.startswith("@"):
            return list(self._elements.get((rule["family"], rule["table"], value[1:]), []))
        if isinstance(value, dict) and "set" in value:
            return list(value["set"])
        return [value]


def tables(listing: str, without_iptables: bool) -> list[Table]:
    """Return the tables that hold for IP, without those that iptables shows as its own if so wished.

    Raises ValueError, KeyError, TypeError or AttributeError for a listing that is none.
    """
    ruleset = _Ruleset(listing)
    names = dict.fromkeys((chain["family"], chain["table"]) for chain in ruleset.chains)
    return [
        _table(ruleset, key)
        for key in names
        if key[0] in _VERSIONS and not (without_iptables and _is_of_iptables(ruleset, key))
    ]


def _is_of_iptables(ruleset: _Ruleset, key: _Key) -> bool:
    """Tell whether a table is iptables-nft's: by its name, and chains named after hooks as only iptables does."""
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
    return Table(f"table {' '.join(key)} of nft", _VERSIONS[key[0]], tuple(hooks), tuple(rules))


def _rules(ruleset: _Ruleset, listed: dict[str, Any]) -> Iterator[Rule]:
    """Yield a rule; one with a map of verdicts as a rule for each of its elements."""
    where = f"nft table {listed['family']} {listed['table']}, chain {listed['chain']}, handle {listed.get('handle')}"
    statements: list[dict[str, Any]] = listed["expr"]
    ports: list[tuple[int, int]] = []
    unconditional = True
    for statement in statements:
        kind, content = next(iter(statement.items()))
        if kind == "match" and content["left"] == _PROTOCOL:
            if "tcp" not in ruleset.elements(listed, content["right"]) or content["op"] not in _EQUAL:
                return  # nothing in the rule is about us
        elif kind == "match":
            unconditional = False
            if _is_port(content["left"]) and content["op"] in _EQUAL:
                ports += _ranges(ruleset.elements(listed, content["right"]))
        elif kind == "vmap" and _is_port(content["key"]):
            unconditional = False
            for key, verdict in ruleset.elements(listed, content["data"]):
                yield _rule(listed["chain"], where, verdict, _ranges([key]), False)
        elif kind in _EFFECTS or kind in ("jump", "goto", "queue"):
            yield _rule(listed["chain"], where, statement, ports, unconditional)
        elif kind not in _HARMLESS:
            unconditional = False


def _rule(chain: str, where: str, verdict: dict[str, Any], ports: list[tuple[int, int]], unconditional: bool) -> Rule:
    kind, content = next(iter(verdict.items()))
    return Rule(
        chain=chain,
        text=where,
        effect=_EFFECTS.get(kind, Effect.OTHER),
        ports=tuple(ports),
        unconditional=unconditional,
        target=content["target"] if kind in ("jump", "goto") else "",
        queues=_queues(content) if kind == "queue" else None,
    )


def _is_port(expression: Any) -> bool:
    """Tell whether an expression is the destination port of TCP, or of TCP among others."""
    if not isinstance(expression, dict):
        return False
    payload, tracked = expression.get("payload", {}), expression.get("ct", {})
    of_packet = payload.get("field") == "dport" and payload.get("protocol") in ("tcp", "th")
    return of_packet or (tracked.get("key") == "proto-dst" and tracked.get("dir") == "original")


def _ranges(values: list[Any]) -> list[tuple[int, int]]:
    """Return the ranges of ports among a set's elements; an element may carry a comment or a timeout."""
    found = []
    for value in values:
        bare = value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value
        if isinstance(bare, int):
            found.append((bare, bare))
        elif isinstance(bare, dict) and "range" in bare:
            first, last = bare["range"]
            found.append((int(first), int(last)))
    return found


def _queues(content: Any) -> tuple[int, int] | None:
    """Return the numbers of the queues of a statement that does not let packets by where nobody listens."""
    settings = content or {}
    flags = settings.get("flags", [])
    if "bypass" in ([flags] if isinstance(flags, str) else flags):
        return None
    number = settings.get("num", 0)
    if isinstance(number, dict) and "range" in number:
        first, last = number["range"]
        return int(first), int(last)
    return (number, number) if isinstance(number, int) else None
