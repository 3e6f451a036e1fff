"""Check everything that a validation needs, without a CA and without changing anything.

Only the self-test adds rules, in a network namespace of its own that ends with it. All of it takes less than five
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.capture.ebpf.backend import NAME as EBPF
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.cli.doctor import machine, port
from certbot_standalone_nfq.cli.doctor.finding import Finding, warned
from certbot_standalone_nfq.cli.doctor.names import Lookups
from certbot_standalone_nfq.cli.doctor.need import Need
from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.firewall import reader
from certbot_standalone_nfq.host.service import Service, service
from certbot_standalone_nfq.settings import AUTO, DNS_01, HTTP_01, Settings

_SECONDS = 3.5
"""For everything, including the look-ups of names; Python's start and end come on top."""
SECONDS_FOR_NAMES = 3.0
_SECONDS_PER_PROGRAM = 1.0


def examine(
    needs: Sequence[Need], *, load_modules: bool, seconds_for_names: float = SECONDS_FOR_NAMES
) -> Iterator[Finding]:
    """Yield what is found about one or more needs.

    A check that fails is a finding as well.
    """
    deadline, names_deadline = Deadline(_SECONDS, step=_SECONDS_PER_PROGRAM), Deadline(seconds_for_names)
    variants = reader.variants(deadline)
    inventory = kernel_modules.inventory()
    if load_modules:
        kernel_modules.load(*to_be_loaded(variants, inventory))
        inventory = kernel_modules.inventory()
    rules = reader.read_rules(variants, inventory.presence(kernel_modules.NF_TABLES), deadline)
    ways = [_way(need, rules) for need in needs]
    by_rules = [way.need for way in ways if way.name != EBPF]
    # Forks, so it comes before the threads that look names up; their results come last.
    chosen = [variant for variant in variants if needs[0].capture in (AUTO, variant.name)]
    self_test = machine.start_self_test(chosen, inventory, load_modules, by_ebpf=ways[0].name == EBPF)
    lookups = [(need, Lookups(need.names, need.typ)) for need in needs]
    yield from _guarded("privileges", machine.capabilities)
    for need in by_rules:
        yield from _guarded("kernel", partial(machine.kernel, inventory, variants, need.typ))
    yield from _guarded("tools", lambda: machine.firewall_tools(variants, rules, needed=bool(by_rules)))
    for way in ways:
        yield from _guarded("capture", partial(machine.capture, way.name, way.why, way.need.port))
    yield from _guarded("self-test", lambda: machine.self_test_result(self_test, deadline.remaining()))
    services = {need: _services(need, rules) for need in needs}
    for need in needs:
        yield from _on_the_port(services[need], rules, deadline)
    yield from _guarded("queues", lambda: port.queues(rules))
    yield from _guarded("clients", port.clients)
    for need, looked_up in lookups:
        yield from _guarded("name", partial(looked_up.findings, services[need][-1], names_deadline))


class _Way(NamedTuple):
    """How packets would be captured, and why; without a name if there is no way."""

    need: Need
    name: str
    why: str


def _way(need: Need, rules: reader.Snapshot) -> _Way:
    selectors = ChallengePort(need.port, (registry.solver(need.typ or HTTP_01),)).selectors()
    return _Way(need, *choice.expected(Settings(capture=need.capture), selectors, rules))


def _services(need: Need, rules: reader.Snapshot) -> list[Service]:
    """Return who serves a port: over each of its transports, TCP last. Raises OSError."""
    transports = (Transport.UDP, Transport.TCP) if need.typ == DNS_01 else (Transport.TCP,)
    return [service(need.port, rules, transport) for transport in transports]


def _on_the_port(services: list[Service], rules: reader.Snapshot, deadline: Deadline) -> Iterator[Finding]:
    """Yield who listens on a port, and what the firewall does with it."""
    server = "name server" if len(services) > 1 else "web server"
    for served in services:
        yield from _guarded("listener", partial(port.listening, served, deadline, server))
    for served in services:
        yield from _guarded("firewall", partial(port.firewall, served, rules))


def to_be_loaded(variants: list[reader.Variant], inventory: kernel_modules.Inventory) -> list[kernel_modules.Feature]:
    """Return what the first variant that can work would load into the kernel."""
    variant = next((each for each in variants if machine.works_with(inventory, each)), None)
    needed = machine.needed(variant) if variant else ()
    return [feature for feature in needed if inventory.presence(feature).would_load]


def _guarded(check: str, find: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield a check's findings. If it raises an exception, that is a finding, and the other checks go on."""
    try:
        yield from find()
    except Exception as error:
        errors.raise_interruption(error)
        yield warned(check, f"This check failed: {error!r}.", "Check this by hand, and report it.")
