"""The rules of a run as nft's text, and the reading of that text. Nothing here runs a program.

A run has a table of its own, for both IP versions, whose chains see packets just before those of the mangle priority:

    input:    the port, or conntrack's original port -> pick
    forward:  conntrack's original port, over TCP of connections whose handshake it has seen to its end -> pick
    pick:     already decided on -> released
              connection of interest -> queued
              payload selected -> found
    found:    remember the connection; -> queued
    datagram: already decided on -> released
              payload selected -> queued; over UDP, packets come here instead of to pick
    released: not to be watched -> forget the connection
              clear the packet's mark; go on to the next table

A connection of interest is an element of a set, by its addresses and ports as the server sees them, so it needs no
mark. A queued packet that is released comes back to the top of our own chain (NF_REPEAT) with our bit in its mark, and
loses it there: no other program's rule sees it.
"""

from __future__ import annotations

from collections.abc import Iterator

from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, RunId, Selection
from certbot_standalone_nfq.capture.nftables import selector
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.engine.protocols import Transport

_TABLE_PREFIX = "certbot-nfq-"
_PRIORITY = -151  # before NF_IP_PRI_MANGLE, include/uapi/linux/netfilter_ipv4.h
_SECONDS = 180
"""How long a connection is remembered: longer than the engine keeps it."""
_CONNECTIONS = 65535
_SETS = {"four": ("ip", "ipv4_addr"), "six": ("ip6", "ipv6_addr")}


def table_name(run_id: RunId) -> str:
    """Return the name of a run's table."""
    return f"{_TABLE_PREFIX}{run_id.queue}-{run_id.run}"


def install_commands(allocation: Allocation, payload: Payload, owned: bool) -> list[str]:
    """Return the commands, a line each, that add the rules; the last ones send packets through them.

    An `owned` table vanishes with the program that makes it, from Linux 5.12 on.
    """
    name = table_name(allocation.run_id)
    chains = dict(_chains(allocation, payload))
    commands = [f"table inet {name} {{ {'flags owner; ' if owned else ''}{_sets() if _remembers(allocation) else ''}}}"]
    commands += [f"add chain inet {name} {chain}" for chain in chains]
    commands += ["; ".join(_additions(name, chain, rules)) for chain, rules in chains.items()]
    for hook, rules in _hook_rules(allocation).items():
        base_chain = f"add chain inet {name} {hook} {{ type filter hook {hook} priority {_PRIORITY}; policy accept; }}"
        commands.append("; ".join([base_chain, *_additions(name, hook, rules)]))
    return commands


def withdrawal_commands(allocation: Allocation) -> list[str]:
    """Return the commands after which no further packet is sent to the queue.

    Those that wait in it stay there, and still lose their mark when they come back.
    """
    name = table_name(allocation.run_id)
    return [
        f"flush chain inet {name} {hook}; add rule inet {name} {hook} {_decided_on(allocation)}"
        for hook in _hook_rules(allocation)
    ]


def removal_command(run_id: RunId) -> str:
    """Return the command that removes a run's table; the kernel then drops what waits in any queue."""
    return f"delete table inet {table_name(run_id)}"


def probes(allocation: Allocation) -> dict[str, list[str]]:
    """Return, for each module that the rules need, commands without an effect that need it and no later one."""
    rules = {"nf_tables": "accept", "nft_ct": "ct direction original", "nft_queue": _queue(allocation)}
    if not _tracks(allocation):
        del rules["nft_ct"]
    name = table_name(allocation.run_id)
    return {
        module: [f"table inet {name} {{ chain probe {{ {rule}; }}; }}", removal_command(allocation.run_id)]
        for module, rule in rules.items()
    }


def _tracks(allocation: Allocation) -> bool:
    return allocation.tracked and allocation.selection is not Selection.STATELESS_PORT


def _remembers(allocation: Allocation) -> bool:
    return allocation.selection is Selection.PREFILTER


def _sets() -> str:
    return "".join(
        f"set {name} {{ type {address} . inet_service . {address} . inet_service; "
        f"flags dynamic,timeout; timeout {_SECONDS}s; size {_CONNECTIONS}; }}; "
        for name, (_, address) in _SETS.items()
    )


def _connection(protocol: str) -> str:
    return f"{protocol} saddr . tcp sport . {protocol} daddr . tcp dport"


def _hook_rules(allocation: Allocation) -> dict[str, list[str]]:
    unchanged = [f"{name} dport {allocation.port} goto {chain}" for name, chain in _picking(allocation)]
    if not _tracks(allocation):
        return {"input": unchanged}
    opened = f"ct direction original ct original proto-dst {allocation.port}"
    return {
        "input": [*unchanged, *(f"meta l4proto {name} {opened} goto {chain}" for name, chain in _picking(allocation))],
        "forward": [
            f"meta l4proto {name} {'ct status assured ' if name == 'tcp' else ''}{opened} goto {chain}"
            for name, chain in _picking(allocation)
        ],
    }


def _picking(allocation: Allocation) -> Iterator[tuple[str, str]]:
    """Yield each transport there is a selector for, by nft's name, and the chain that its packets go to."""
    for transport in allocation.transports:
        yield transport.name.lower(), "pick" if transport is Transport.TCP else "datagram"


def _chains(allocation: Allocation, payload: Payload) -> Iterator[tuple[str, list[str]]]:
    """Yield the chains that the hooks' rules go to, each before those that go to it."""
    released, both = allocation.marks.released, allocation.marks.both
    forget = [f"meta mark & {both:#x} == {released:#x} delete @{name} {{ {_connection(ip)} }}" for name, ip in _ips()]
    clear = f"meta mark set meta mark & {both ^ 0xFFFFFFFF:#x}"
    yield "released", [*(forget if _remembers(allocation) else []), clear]
    decided_on = _decided_on(allocation)
    if Transport.UDP in allocation.transports:
        yield "datagram", [decided_on, *_pick_datagrams(allocation)]
    if Transport.TCP not in allocation.transports:
        return
    if not _remembers(allocation):
        yield "pick", [decided_on, _queue(allocation)]
        return
    yield "found", [*(f"update @{name} {{ {_connection(ip)} }}" for name, ip in _ips()), _queue(allocation)]
    of_interest = [f"{_connection(ip)} @{name} {_queue(allocation)}" for name, ip in _ips()]
    over_tcp = allocation.selectors_over(Transport.TCP)
    yield from selector.chains(over_tcp, payload)
    yield "pick", [decided_on, *of_interest, *selector.rules(over_tcp, payload)]


def _pick_datagrams(allocation: Allocation) -> list[str]:
    if allocation.selection is not Selection.PREFILTER:
        return [_queue(allocation)]
    return selector.datagram_rules(allocation.selectors_over(Transport.UDP), _queue(allocation))


def _ips() -> Iterator[tuple[str, str]]:
    for name, (protocol, _) in _SETS.items():
        yield name, protocol


def _decided_on(allocation: Allocation) -> str:
    return f"meta mark & {allocation.marks.released:#x} == {allocation.marks.released:#x} goto released"


def _queue(allocation: Allocation) -> str:
    return f"queue num {allocation.queue} bypass"


def _additions(table: str, chain: str, rules: list[str]) -> list[str]:
    return [f"add rule inet {table} {chain} {rule}" for rule in rules]
