"""Check everything that a validation needs, without a CA and without changing anything.

Only the self-test adds rules, in a network namespace of its own that ends with it. All of it takes less than five
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.capture.ebpf.backend import NAME as EBPF
from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.cli.doctor import machine, port
from certbot_standalone_nfq.cli.doctor.finding import Finding, warned
from certbot_standalone_nfq.cli.doctor.names import Lookups
from certbot_standalone_nfq.host import kernel_modules, service
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.firewall import reader
from certbot_standalone_nfq.settings import DNS_01, HTTP_01, Settings

_SECONDS = 3.5
"""For everything, including the look-ups of names; Python's start and end come on top."""
_SECONDS_FOR_NAMES = 3.0
_SECONDS_PER_PROGRAM = 1.0


def examine(number: int, names: list[str], load_modules: bool, typ: str = "") -> Iterator[Finding]:
    """Yield what is found about a port and names, for a type of challenge or for the one that Certbot takes by itself.

    A check that fails is a finding as well.
    """
    deadline, names_deadline = Deadline(_SECONDS, step=_SECONDS_PER_PROGRAM), Deadline(_SECONDS_FOR_NAMES)
    variants = reader.variants(deadline)
    inventory = kernel_modules.inventory()
    if load_modules:
        kernel_modules.load(*to_be_loaded(variants, inventory))
        inventory = kernel_modules.inventory()
    rules = reader.read_rules(variants, inventory.presence(kernel_modules.NF_TABLES), deadline)
    selectors = ChallengePort(number, (registry.solver(typ or HTTP_01),)).selectors()
    way, why = choice.expected(Settings(), selectors, rules)
    # Forks, so it comes before the threads that look names up; their results come last.
    self_test = machine.start_self_test(variants, inventory, load_modules, by_ebpf=way == EBPF)
    lookups = Lookups(names, typ)
    yield from _guarded("privileges", machine.capabilities)
    if way != EBPF:
        yield from _guarded("kernel", lambda: machine.kernel(inventory, variants, typ))
    yield from _guarded("tools", lambda: machine.firewall_tools(variants, rules, needed=way != EBPF))
    yield from _guarded("capture", lambda: machine.capture(way, why, number))
    yield from _guarded("self-test", lambda: machine.self_test_result(self_test, deadline.remaining()))
    served = service.service(number, rules)
    if typ == DNS_01:
        datagrams = service.datagram_service(number)
        yield from _guarded("listener", lambda: port.listening(datagrams, deadline, "name server"))
        yield from _guarded("listener", lambda: port.listening(served, deadline, "name server"))
    else:
        yield from _guarded("listener", lambda: port.listening(served, deadline))
    yield from _guarded("firewall", lambda: port.firewall(served, rules))
    yield from _guarded("queues", lambda: port.queues(rules))
    yield from _guarded("clients", port.clients)
    yield from _guarded("name", lambda: lookups.findings(served, names_deadline))


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
