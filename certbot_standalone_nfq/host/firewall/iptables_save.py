"""Parses the output of iptables-save. Runs no program."""

from __future__ import annotations

import functools
import operator
import re
import shlex
from collections.abc import Iterable, Iterator

from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host.firewall.rules import Effect, Hook, Rule, Table

_EFFECTS = {
    "ACCEPT": Effect.ACCEPT,
    "DROP": Effect.REFUSE,
    "REJECT": Effect.REFUSE,
    "DNAT": Effect.TRANSLATE,
    "REDIRECT": Effect.TRANSLATE,
    "SNAT": Effect.TRANSLATE_SOURCE,
    "MASQUERADE": Effect.TRANSLATE_SOURCE,
    "RETURN": Effect.LEAVE,
    "QUEUE": Effect.DIVERT,
    "NFQUEUE": Effect.DIVERT,
    "TPROXY": Effect.DIVERT,
    "SYNPROXY": Effect.SHAKE_HANDS,
    "NOTRACK": Effect.UNTRACK,
}
_HOOKS = {"INPUT": True, "PREROUTING": False}
_PORT_OPTIONS = frozenset(
    {"--dport", "--dports", "--ports", "--destination-port", "--destination-ports", "--ctorigdstport"}
)
_STATE_OPTIONS = ("--ctstate", "--state")
_OF_ANY_CLIENT = frozenset(("-m", module) for module in ("multiport", "comment", "conntrack", "state")) | {
    (option, transport.name.lower()) for option in ("-m", "-p") for transport in Transport
}
_HIGHEST_PORT = 0xFFFF
_MARK_VALUE = re.compile(r"--(?:mark|set-xmark) (0x[0-9a-fA-F]+|\d+)")
_CONNECTION_MASKS = (
    re.compile(r"-m connmark (?:! )?--mark (?:0x[0-9a-fA-F]+|\d+)(?:/(0x[0-9a-fA-F]+))?"),
    re.compile(r"-j CONNMARK --set-xmark 0x[0-9a-fA-F]+/(0x[0-9a-fA-F]+)"),
    re.compile(r"-j CONNMARK --(?:save|restore)-mark(?: --nfmask 0x[0-9a-fA-F]+ --ctmask (0x[0-9a-fA-F]+))?"),
)
_ALL_BITS = "0xffffffff"


def is_incomplete(shown: str) -> bool:
    """Whether a program left something out: iptables does not show tables with rules that only nft can express."""
    return "is incompatible, use 'nft' tool" in shown


def tables(saved: str, program: str, version: int, transport: Transport = Transport.TCP) -> list[Table]:
    """Return the tables in a program's output for an IP version, in their order, as packets over a transport meet them.

    Raises ValueError or IndexError if the output is malformed.
    """
    found: list[Table] = []
    name = ""
    hooks: list[Hook] = []
    rules: list[Rule] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            name, hooks, rules = line[1:], [], []
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            if chain in _HOOKS:
                hooks.append(Hook(chain, _HOOKS[chain], policy == "DROP"))
        elif line.startswith("-A "):
            rules.append(_rule(line, program, name, transport))
        elif line == "COMMIT":
            found.append(Table(f"table {name} of {program}", frozenset({version}), tuple(hooks), tuple(rules)))
    return found


def _rule(line: str, program: str, table: str, transport: Transport) -> Rule:
    words = _words(line)
    target = _after(words, ("-j", "--jump", "-g", "--goto"))
    return Rule(
        chain=words[1],
        text=f"{program} -t {table} {line}",
        effect=Effect.UNTRACK if "--notrack" in words else _EFFECTS.get(target, Effect.OTHER),
        ports=tuple(_ports(words)) if _is_for(words, transport) else (),
        unconditional=_is_unconditional(words, transport.name.lower()),
        target=target,
        queues=_queues(words) if target == "NFQUEUE" else None,
        bypass="--queue-bypass" in words,
        marks=_bits(_MARK_VALUE.findall(line)),
        for_transport=_is_for(words, transport),
        for_arrivals=_is_for_arrivals(words),
        for_all=_is_for_all(words),
        returns=not {"-g", "--goto"} & set(words),
        connection_marks=_bits(mask or _ALL_BITS for each in _CONNECTION_MASKS for mask in each.findall(line)),
    )


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a comment with a quotation mark, escaped in a way that shells do not know
        return line.split()


def _after(words: list[str], options: tuple[str, ...]) -> str:
    return next((following for word, following in zip(words, words[1:]) if word in options), "")


def _is_unconditional(words: list[str], transport: str) -> bool:
    """Whether a rule has a target and nothing else, except comments and being for a transport."""
    at = 2
    while at < len(words) and words[at : at + 2] in (["-p", transport], ["-m", transport], ["-m", "comment"]):
        at += 4 if words[at + 1] == "comment" else 2
    return words[at : at + 1] in (["-j"], ["-g"])


def _is_for_all(words: list[str]) -> bool:
    """Whether a rule asks for nothing but a transport, ports, and a new connection."""
    conditions = list(_conditions(words))
    return _is_for_arrivals(words) and all(
        pair in _OF_ANY_CLIENT or pair[0] in _PORT_OPTIONS or pair[0] in (*_STATE_OPTIONS, "--comment")
        for pair in conditions
    )


def _conditions(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the options ahead of a rule's target, each with its value; what has none, or is negated, with nothing."""
    ends = [words.index(option) for option in ("-j", "-g") if option in words]
    options = words[2 : min(ends, default=len(words))]
    for index, word in enumerate(options):
        if word.startswith("-") or word == "!":
            negated = options[index - 1 : index] == ["!"]
            yield (word, "" if negated else " ".join(options[index + 1 : index + 2]))


def _is_for_arrivals(words: list[str]) -> bool:
    conditions = list(_conditions(words))
    states = [value.split(",") for option, value in conditions if option in _STATE_OPTIONS and value]
    return ("-i", "lo") not in conditions and all("NEW" in each or "UNTRACKED" in each for each in states)


def _is_for(words: list[str], transport: Transport) -> bool:
    """Whether packets over a transport can match."""
    protocol = _after(words, ("-p", "--protocol"))
    negated = any(pair in (("!", "-p"), ("!", "--protocol")) for pair in zip(words, words[1:]))
    return not protocol or (protocol in (transport.name.lower(), str(transport.value), "all")) != negated


def _ports(words: list[str]) -> Iterator[tuple[int, int]]:
    for index, word in enumerate(words[:-1]):
        if word in _PORT_OPTIONS and words[index - 1] != "!":
            for part in words[index + 1].split(","):
                first, colon, last = part.partition(":")
                yield int(first or 0), int(last or _HIGHEST_PORT) if colon else int(first)


def _queues(words: list[str]) -> tuple[int, int]:
    first, _, last = (_after(words, ("--queue-num", "--queue-balance")) or "0").partition(":")
    return int(first), int(last or first)


def _bits(values: Iterable[str]) -> int:
    return functools.reduce(operator.or_, (int(value, 0) for value in values), 0)
