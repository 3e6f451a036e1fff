"""The rules of a run as iptables' text, and the reading of that text. Nothing here runs a program.

In the mangle table, after NAT, for packets from the client to the port it addressed:

    INPUT:   the port -> CHAIN, whatever conntrack thinks of the packet: of a connection older than the rules it may
             have seen the server's side first
    INPUT:   a port that NAT has changed, and conntrack's original port -> CHAIN
    FORWARD: likewise, over TCP of connections whose handshake conntrack has seen to its end (ASSURED): their sockets
             cannot be looked up here, and nobody else has answered for them
    Either hook sends datagrams to CHAIN-UDP first, where one of another client meets a single rule:
    CHAIN-UDP: payload selected -> CHAIN
    CHAIN:   already decided on -> CHAIN-OUT (first, as the connection may have lost its mark while the packet waited)
             a datagram -> NFQUEUE
             payload selected -> set the connection's mark
             connection marked -> NFQUEUE, bypassed while no program listens
             tracked -> go on behind the jump; what follows is for what is not (NOTRACK)
             payload selected -> remember the address it came from, NFQUEUE
             from an address that is remembered -> NFQUEUE
    CHAIN-OUT: not to be watched -> clear the connection's mark
             clear the packet's mark; go on behind the jump

Where every packet of the port is queued, connections need no mark. Where connection tracking must not begin, they have
none: all of TCP is recognised as if it were not tracked.

A queued packet that is released comes back to the top of the hook (NF_REPEAT) with our bit in its mark, leaves by
CHAIN-OUT, and then meets the user's own rules as any other packet does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from certbot_standalone_nfq.capture.bpf import selector
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, RunId, Selection
from certbot_standalone_nfq.engine.protocols import Selector, Transport

TABLE = "mangle"
HOOKS = ("INPUT", "FORWARD")
_CHAIN_PREFIX = "CERTBOT-NFQ-"
_SECONDS = 180
"""How long an address is remembered: longer than the engine keeps a connection."""


class Chains(NamedTuple):
    """The names of a run's chains. They are at most 26 characters long; iptables takes 28."""

    main: str
    datagrams: str
    """What datagrams are sent to first. It is there only if the run has any to capture."""
    out: str
    """What released packets leave by."""


def chain_names(run_id: RunId) -> Chains:
    """Return the names of a run's chains."""
    name = f"{_CHAIN_PREFIX}{run_id.queue}-{run_id.run}"
    return Chains(name, f"{name}-UDP", f"{name}-OUT")


def _chains(allocation: Allocation) -> list[str]:
    """Return the names of the chains that are installed."""
    names = chain_names(allocation.run_id)
    return [name for name in names if name != names.datagrams or Transport.UDP in allocation.transports]


def jump_rules(allocation: Allocation) -> list[tuple[str, str]]:
    """Return the rules that jump to the run's chain, each with the hook's chain that it belongs in."""
    tracked = allocation.tracked and allocation.selection is not Selection.STATELESS_PORT
    kept = slice(None) if tracked else slice(1)
    return [
        jump
        for transport in allocation.transports
        for jump in _jumps(allocation.run_id, allocation.port, transport)[kept]
    ]


def _jumps(run_id: RunId, port: int, transport: Transport) -> list[tuple[str, str]]:
    """Return the jumps: the one that needs no connection tracking, then the others."""
    names, name = chain_names(run_id), transport.name.lower()
    chain = names.datagrams if transport is Transport.UDP else names.main
    opened = f"--ctdir ORIGINAL --ctorigdstport {port} -j {chain}"
    known = "--ctstatus ASSURED " if transport is Transport.TCP else ""
    return [
        ("INPUT", f"-p {name} --dport {port} -j {chain}"),
        ("INPUT", f"-p {name} ! --dport {port} -m conntrack {opened}"),
        ("FORWARD", f"-p {name} -m conntrack {known}{opened}"),
    ]


def chain_rules(allocation: Allocation, family: int) -> list[tuple[str, str]]:
    """Return the rules of the run's own chains for IP version 4 or 6, each with its chain."""
    chain, _, out = chain_names(allocation.run_id)
    connection, released, both = map(
        hex, (allocation.marks.connection, allocation.marks.released, allocation.marks.both)
    )
    queue = f"-j NFQUEUE --queue-num {allocation.queue} --queue-bypass"
    clear_packet = (out, f"-j MARK --set-xmark 0x0/{both}")
    rules = [*_datagrams(allocation, family), (chain, f"-m mark --mark {released}/{released} -g {out}")]
    if allocation.selection is not Selection.PREFILTER:
        return [*rules, (chain, queue), clear_packet]
    if Transport.UDP in allocation.transports:
        rules.append((chain, f"-p udp {queue}"))
    selected = [_condition(each, family) for each in allocation.selectors_over(Transport.TCP)]
    if not allocation.tracked:
        return [*rules, *((chain, f"{rule} {queue}") for rule in _remembered(chain, selected)), clear_packet]
    return [
        *rules,
        *((chain, f"{condition} -j CONNMARK --set-xmark {connection}/{connection}") for condition in selected),
        (chain, f"-m connmark --mark {connection}/{connection} {queue}"),
        (chain, "-m conntrack ! --ctstate UNTRACKED -j RETURN"),
        *((chain, f"{rule} {queue}") for rule in _remembered(chain, selected)),
        (out, f"-m mark --mark {released}/{both} -j CONNMARK --set-xmark 0x0/{connection}"),
        clear_packet,
    ]


def _datagrams(allocation: Allocation, family: int) -> Iterator[tuple[str, str]]:
    """Yield the rules of the chain for datagrams: each is looked at by itself, as its flow has no mark."""
    names = chain_names(allocation.run_id)
    if allocation.selection is Selection.PREFILTER:
        conditions = [_condition(each, family) for each in allocation.selectors_over(Transport.UDP)]
        yield from ((names.datagrams, f"{condition} -g {names.main}") for condition in conditions)
    elif Transport.UDP in allocation.transports:
        yield names.datagrams, f"-g {names.main}"


def _condition(wanted: Selector, family: int) -> str:
    """Return what matches a payload that must be selected."""
    begins = f'-m bpf --bytecode "{selector.bytecode(wanted, family)}"'
    # Not bm: it misses a pattern that lies across two fragments of a packet's memory (lib/ts_bm.c).
    return f"{begins} -m string --algo kmp --hex-string |{wanted.contains.hex()}|" if wanted.contains else begins


def _remembered(chain: str, selected: Iterable[str]) -> Iterator[str]:
    """Yield what matches packets of connections that conntrack does not know, and that so cannot be marked."""
    remembered = f"-m recent --name {chain} --rsource"
    yield from (f"{condition} {remembered} --set" for condition in selected)
    yield f"{remembered} --rcheck --seconds {_SECONDS}"


def install_script(allocation: Allocation, family: int) -> str:
    """Return the input of iptables-restore that adds the rules, in one transaction."""
    chains = [f":{chain} - [0:0]" for chain in _chains(allocation)]
    rules = [f"-A {chain} {rule}" for chain, rule in chain_rules(allocation, family)]
    # At the top of the hook: a rule of the user's before ours could accept the packet.
    jumps = [f"-I {hook} 1 {rule}" for hook, rule in jump_rules(allocation)]
    return script([*chains, *rules, *jumps])


def without_memory(installing: str) -> str:
    """Return a script that adds the rules, without those that have the kernel remember addresses."""
    return "".join(line for line in installing.splitlines(keepends=True) if " -m recent " not in line)


def probe_script(allocation: Allocation, rule: str) -> str:
    """Return the input of iptables-restore that adds the run's chain with just one rule, or an empty one."""
    chain = chain_names(allocation.run_id).main
    return script([f":{chain} - [0:0]", *([f"-A {chain} {rule}"] if rule else [])])


def removal_script(saved: str, run_id: RunId) -> str | None:
    """Return the input of iptables-restore that removes a run's rules, given those saved, or None if there are none."""
    names = chain_names(run_id)
    lines = saved.splitlines()
    own = [line[1:].split()[0] for line in lines if line.startswith(":") and line[1:].split()[0] in names]
    jumps = [f"-D{line[2:]}" for line in _rules_outside(lines, names) if line.split()[-1] in names]
    flushes, deletions = [f"-F {chain}" for chain in own], [f"-X {chain}" for chain in own]
    return script([*jumps, *flushes, *deletions]) if jumps or own else None


def jump_check(allocation: Allocation) -> str:
    """Return iptables' arguments that succeed if the first jump is there, which does not need connection tracking."""
    hook, rule = jump_rules(allocation)[0]
    return f"-C {hook} {rule}"


def removal_steps(run_id: RunId, port: int) -> list[str]:
    """Return iptables' arguments that remove a run's rules of any selection, a jump or a chain's rules at a time."""
    jumps = [f"-D {hook} {rule}" for transport in Transport for hook, rule in _jumps(run_id, port, transport)]
    return [*jumps, *(f"-F {chain}" for chain in chain_names(run_id))]


def chain_deletions(run_id: RunId) -> list[str]:
    """Return iptables' arguments that delete a run's chains. The kernel refuses that while a rule jumps to one."""
    return [f"-X {chain}" for chain in chain_names(run_id)]


def whole_removal_script(allocation: Allocation) -> str:
    """Return the input of iptables-restore that removes all rules of a run, and nothing if any is not there."""
    jumps = [f"-D {hook} {rule}" for hook, rule in jump_rules(allocation)]
    chains = _chains(allocation)
    return script([*jumps, *(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains)])


def script(lines: Iterable[str]) -> str:
    """Return lines as a transaction on the table, for iptables-restore."""
    return "\n".join([f"*{TABLE}", *lines, "COMMIT", ""])


def _rules_outside(lines: list[str], chains: Chains) -> list[str]:
    return [line for line in lines if line.startswith("-A ") and line.split()[1] not in chains]
