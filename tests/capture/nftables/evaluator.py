"""What nft's rules do with a segment, found out from their text, as the kernel would do it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Chains = Mapping[str, Sequence[str]]

_LOAD = re.compile(r"@(ih|th),(\d+),(\d+) (?:& (0x[0-9a-f]+) == )?(>= 0|0x[0-9a-f]+|\{[^}]*\}) ?")
_BY_HEADER_LENGTH = re.compile(r"tcp doff vmap \{ (.*) \}")
_FOUND = "found"


def finds(chains: Chains, entry: Sequence[str], segment: bytes) -> bool:
    """Whether rules lead a segment, given from its TCP header on, to the chain `found`."""
    return _run(chains, entry, segment)


def _run(chains: Chains, rules: Sequence[str], segment: bytes) -> bool:
    for rule in rules:
        action = _action(rule, segment)
        if action == "return":
            return False
        verb, _, target = action.partition(" ")
        if verb and (target == _FOUND or _run(chains, chains[target], segment)):
            return True
        if verb == "goto":
            return False
    return False


def _action(rule: str, segment: bytes) -> str:
    """Return what a rule has done if the segment meets its conditions, else nothing."""
    by_length = _BY_HEADER_LENGTH.fullmatch(rule)
    if by_length:
        actions = dict(entry.split(" : ") for entry in by_length[1].split(", "))
        return actions[str(segment[12] >> 4)]
    while load := _LOAD.match(rule):
        if not _agrees(segment, *load.groups()):
            return ""
        rule = rule[load.end() :]
    return rule


def _agrees(segment: bytes, header: str, offset: str, length: str, mask: str | None, expected: str) -> bool:
    begin = int(offset) // 8 + (4 * (segment[12] >> 4) if header == "ih" else 0)
    octets = segment[begin : begin + int(length) // 8]
    if len(octets) < int(length) // 8:
        return False
    loaded = int.from_bytes(octets, "big") & int(mask or "-1", 0)
    if expected.startswith("{"):
        return loaded in [int(element, 0) for element in expected.strip("{ }").split(", ")]
    return expected == ">= 0" or loaded == int(expected, 0)
