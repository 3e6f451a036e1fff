"""Firewall rules, whichever program showed them, and what can be told from them without being the kernel.

That is what happens to packets that no rule names, which rules name a port, and which marks and queues are in use. The
rest of a rule is left to the user, who is shown it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_OURS = "certbot-nfq-"
_FIRST_OF_CLIENTS = 1024
"""The first port that a client uses which does not ask for a certain one."""


class Effect(enum.Enum):
    """What a rule does with a packet, if it matters here."""

    ACCEPT = enum.auto()
    REFUSE = enum.auto()
    TRANSLATE = enum.auto()
    """Send it to another address or port."""
    TRANSLATE_SOURCE = enum.auto()
    """Have it come from another address or port."""
    LEAVE = enum.auto()
    """Send it back to the chain it came from."""
    DIVERT = enum.auto()
    """Hand it to a program: by a queue, or as a transparent proxy."""
    SHAKE_HANDS = enum.auto()
    """Complete handshakes in the server's place, as SYNPROXY does."""
    UNTRACK = enum.auto()
    """Have conntrack leave its connection alone."""
    OTHER = enum.auto()


@dataclass(frozen=True)
class Rule:
    """One rule, as packets over one transport meet it: TCP, unless something else is said where it was read."""

    chain: str
    text: str
    """As the user finds it."""
    effect: Effect = Effect.OTHER
    ports: tuple[tuple[int, int], ...] = ()
    """The ranges of destination ports that it names, both ends included."""
    unconditional: bool = False
    """Whether it applies to every packet in its chain."""
    target: str = ""
    """The chain that it jumps to, if any."""
    queues: tuple[int, int] | None = None
    """The first and the last packet queue that it uses."""
    bypass: bool = False
    """Whether packets pass if nothing listens to these queues; otherwise they are dropped."""
    marks: int = 0
    """The bits of marks, of packets or connections, that it sets or asks for."""
    connection_marks: int = 0
    """The bits of connections' marks that it compares, overwrites or copies: all, unless it has a mask."""
    for_transport: bool = True
    """Whether packets over that transport can match."""
    for_arrivals: bool = True
    """Whether the first packet of a connection from another machine can match."""
    for_all: bool = False
    """Whether the first packet of each connection to its ports matches, or to any port if it names none."""
    returns: bool = True
    """Whether packets come back from its target that nothing there has decided on."""

    def names(self, port: int) -> bool:
        """Whether it names a port."""
        return any(first <= port <= last for first, last in self.ports)

    def uses(self, queue: int, marks: int, connection_marks: int = 0) -> bool:
        """Whether it uses a queue, or any of some bits of marks, the connections' own among them."""
        if self.queues and self.queues[0] <= queue <= self.queues[1]:
            return True
        return bool(self.marks & marks or self.connection_marks & connection_marks)

    def passes_by(self, port: int) -> bool:
        """Whether no packet of a connection to a port can match, or from it to a client, whose port is not below 1024.

        This holds if the port is not translated.
        """
        elsewhere = self.ports and not self.names(port) and all(last < _FIRST_OF_CLIENTS for _, last in self.ports)
        return not self.for_transport or bool(elsewhere)


@dataclass(frozen=True)
class Hook:
    """A chain that packets enter from the network: for this machine, or before routing has decided."""

    chain: str
    for_us: bool
    refuses: bool = False
    """Whether its policy is to drop."""


@dataclass(frozen=True)
class Table:
    """A table of rules: its name in words, the IP versions that it applies to, and the chains that packets enter."""

    name: str
    versions: frozenset[int]
    hooks: tuple[Hook, ...]
    rules: tuple[Rule, ...]

    @property
    def chains(self) -> frozenset[str]:
        """The chains that have rules."""
        return frozenset(rule.chain for rule in self.rules)

    def incoming(self) -> Iterator[Rule]:
        """Yield the rules that packets from the network can reach, in no particular order."""
        chains = {hook.chain for hook in self.hooks}
        pending = set(chains)
        while pending:
            chain = pending.pop()
            for rule in self.rules:
                if rule.chain != chain:
                    continue
                yield rule
                if rule.target and rule.target not in chains:
                    chains.add(rule.target)
                    pending.add(rule.target)


@dataclass(frozen=True)
class Judgement:
    """What a table does with a port, in words, and whether packets to the port probably pass."""

    open: bool
    seen: str


def judge(table: Table, port: int, called: str = "") -> list[Judgement]:
    """Judge a port: by a rule that refuses it, and by what refuses everything that no rule names."""
    called = called or f"port {port}"
    naming = [rule for rule in table.incoming() if rule.names(port)]
    refusing = next((rule for rule in naming if rule.effect is Effect.REFUSE), None)
    judgements = [Judgement(False, f"A rule refuses {called}: {refusing.text}")] if refusing else []
    admitting = next((rule for rule in naming if rule.effect is Effect.ACCEPT or rule.target in table.chains), None)
    for hook in table.hooks:
        last_word = _last_word(table, hook)
        if not hook.for_us or not last_word:
            continue
        if admitting:
            judgements.append(Judgement(True, f"{last_word}, and a rule names {called}: {admitting.text}"))
        else:
            judgements.append(Judgement(False, f"{last_word}, and no rule in their path names {called}"))
    return judgements


def _last_word(table: Table, hook: Hook) -> str:
    """Return what refuses packets that no rule names, in words; empty if they are accepted."""
    rule = _decisive(table, hook.chain, set())
    if rule:
        return "" if rule.effect is Effect.ACCEPT else f"All other packets are refused by {rule.text}"
    return f"The policy of {hook.chain} in {table.name} is DROP" if hook.refuses else ""


def _decisive(table: Table, chain: str, seen: set[str]) -> Rule | None:
    """Return the first rule of a chain that decides on every packet that reaches it, if there is one."""
    seen.add(chain)
    for rule in table.rules:
        if rule.chain != chain or not rule.unconditional:
            continue
        if rule.effect in (Effect.ACCEPT, Effect.REFUSE):
            return rule
        further = _decisive(table, rule.target, seen) if rule.target and rule.target not in seen else None
        if further:
            return further
    return None


def translations(tables: list[Table], port: int, version: int) -> list[Rule]:
    """Return the rules that redirect packets for a port, for an IP version."""
    return [
        rule
        for table in tables
        if version in table.versions
        for rule in table.incoming()
        if rule.effect is Effect.TRANSLATE and rule.names(port)
    ]


def using_marks_of(tables: list[Table], port: int) -> list[Rule]:
    """Return all rules, those without their marks that cannot meet packets of TCP connections to a port.

    Nor can those in a chain to which only such rules jump.
    """
    rules = [rule for table in tables for rule in table.rules]
    is_translated = any(rule.effect is Effect.TRANSLATE and rule.names(port) for rule in rules)

    def is_met(rule: Rule) -> bool:
        return rule.for_transport if is_translated else not rule.passes_by(port)

    met = {id(rule) for table in tables for rule in _met(table, is_met)}
    return [rule if id(rule) in met else dataclasses.replace(rule, marks=0, connection_marks=0) for rule in rules]


def _met(table: Table, is_met: Callable[[Rule], bool]) -> Iterator[Rule]:
    """Yield the rules that packets can meet, from the chains on that no rule jumps to."""
    pending = table.chains - {rule.target for rule in table.rules}
    seen: set[str] = set()
    while pending:
        here = [rule for rule in table.rules if rule.chain in pending and is_met(rule)]
        yield from here
        seen |= pending
        pending = frozenset(rule.target for rule in here) & table.chains - seen


def translates_sources(tables: list[Table]) -> bool:
    """Whether any rule gives packets for this machine another source: their sockets have it, and captures do not."""
    return any(rule.effect is Effect.TRANSLATE_SOURCE for table in tables for rule in table.incoming())


def changing_answers(tables: list[Table], port: int) -> list[Rule]:
    """Return the rules for a port by which conntrack changes what the server sends, and so what we send."""
    shaking = [rule for table in tables for rule in table.incoming() if rule.effect is Effect.SHAKE_HANDS]
    translated = any(rule.effect is Effect.TRANSLATE and rule.names(port) for table in tables for rule in table.rules)
    met = [rule for table in tables for rule in (table.rules if translated else table.incoming())]
    return [
        *(rule for rule in shaking if rule.names(port)),
        *(rule for rule in met if rule.effect is Effect.TRANSLATE_SOURCE and not rule.passes_by(port)),
    ]


def diverting(tables: list[Table], port: int) -> list[Rule]:
    """Return the rules that hand packets for a port to a program, other than those of this plugin's runs."""
    met = [rule for table in tables for rule in table.incoming() if _OURS not in rule.text.lower()]
    return [rule for rule in met if rule.effect is Effect.DIVERT and not rule.passes_by(port)]
