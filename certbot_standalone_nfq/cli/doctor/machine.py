"""What the machine can do: privileges, kernel, firewall tools, and the self-test that uses them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf.backend import NAME as EBPF
from certbot_standalone_nfq.cli.doctor import self_test
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, unchecked, warned
from certbot_standalone_nfq.cli.doctor.network_namespace import Failed, PrivateRun
from certbot_standalone_nfq.host import kernel_modules, privileges
from certbot_standalone_nfq.host.addresses import has_ipv6
from certbot_standalone_nfq.host.firewall.reader import LEGACY, NF_TABLES, NFT, Snapshot, Variant
from certbot_standalone_nfq.host.kernel_modules import Feature, Inventory, Presence
from certbot_standalone_nfq.settings import AUTO, TLS_ALPN_01

_INSTALL = "Install your distribution's iptables or nftables package."
_THERE = (Presence.BUILT_IN, Presence.LOADED, Presence.AVAILABLE)
_DISTRIBUTIONS_KERNEL = "Boot your distribution's own kernel, with all its modules installed."


def capabilities() -> Iterator[Finding]:
    """Check the capabilities that the plugin needs, and whether they have an effect here."""
    try:
        privileges.require_linux()
        privileges.require_capabilities()
    except errors.Error as error:
        yield failed("privileges", error.cause, error.cure)
        return
    yield passed("privileges", "CAP_NET_ADMIN and CAP_NET_RAW are in effect.")


def kernel(inventory: Inventory, variants: list[Variant], typ: str = "") -> Iterator[Finding]:
    """Check what the first program that can work needs of the kernel, and what a type's prefilter needs."""
    variant = next((each for each in variants if works_with(inventory, each)), variants[0] if variants else None)
    required = _required(variant)
    preferred: tuple[Feature, ...] = () if variant and variant.backend == NFT else kernel_modules.FOR_PREFILTER
    if preferred and typ == TLS_ALPN_01:
        preferred += kernel_modules.FOR_SEARCH
    presences = {feature: inventory.presence(feature) for feature in (*required, *preferred)}
    lacking = {feature: presence for feature, presence in presences.items() if presence is Presence.NOT_FOUND}
    for feature in lacking:
        seen = f"{feature.name} not found: module {feature.module}, kernel option {feature.option}."
        if feature in required:
            yield failed("kernel", seen, _DISTRIBUTIONS_KERNEL)
        else:
            costs = "All packets of the port will go through Certbot while it validates. "
            yield warned("kernel", seen, costs + _DISTRIBUTIONS_KERNEL)
    unknown = [feature.module for feature, presence in presences.items() if presence is Presence.UNKNOWN]
    if unknown:
        yield warned(
            "kernel",
            f"{Presence.UNKNOWN.value}: {', '.join(unknown)}.",
            "Run this with --load-modules: the self-test then shows whether they work.",
        )
    there = [
        f"{presence.value}: {', '.join(feature.module for feature, found in presences.items() if found is presence)}"
        for presence in Presence
        if presence in _THERE and presence in presences.values()
    ]
    if there:
        yield passed("kernel", f"{'; '.join(there)}.")


def capture(way: str, why: str, port: int) -> Iterator[Finding]:
    """Report which way to capture a validation would take, if any."""
    if way:
        yield passed("capture", f"Packets to port {port} would be captured by {way}, as {why}.")
    else:
        yield failed("capture", f"There is no way to capture packets to port {port}.", _INSTALL)


def firewall_tools(variants: list[Variant], rules: Snapshot, *, needed: bool = True) -> Iterator[Finding]:
    """Check for an iptables or nft that works, and for rules in both variants of iptables."""
    if not variants:
        yield (failed if needed else warned)(
            "tools",
            "Found neither iptables, with iptables-save and iptables-restore, nor nft in PATH or the sbin directories.",
            _INSTALL,
        )
        return
    complaints = {shown.backend: shown.complaint for shown in rules.listings if shown.complaint}
    if privileges.missing_capabilities():
        complaints = {}  # each would be about that
    first: Variant | None = None
    for variant in variants:
        complaint = variant.complaint or complaints.get(variant.backend, "")
        if complaint:
            yield warned("tools", f"{variant.path} does not work: {complaint}.", "Run it by hand to see why.")
        else:
            first = first or variant
    if first:
        variant_of_iptables = "" if first.backend == NFT else f", variant {first.backend}"
        yield passed("tools", f"{first.path}, version {first.version}{variant_of_iptables}.")
    else:
        yield failed("tools", "Neither a variant of iptables nor nft works.", "See the lines above.")
    if all(any(shown.any for shown in rules.listings if shown.backend == backend) for backend in (NF_TABLES, LEGACY)):
        yield warned(
            "tools",
            "Both variants of iptables, nf_tables and legacy, have rules, and packets must pass both.",
            "Find out which program uses which variant, and make all use the same. The plugin works in either case.",
        )


@dataclass(frozen=True)
class SelfTest:
    """The running self-test, or why it was skipped."""

    run: PrivateRun | None
    skipped: Finding | None = None
    """Why it was not run, or why it may have failed."""


def start_self_test(
    variants: list[Variant], inventory: Inventory, may_load: bool, *, by_ebpf: bool = False
) -> SelfTest:
    """Start the self-test if that is possible. Must be called before there are threads, as it forks."""
    missing = [*privileges.missing_capabilities(), *([] if privileges.may_make_namespaces() else ["CAP_SYS_ADMIN"])]
    if missing:
        lack = f"Skipped: it needs {' and '.join(missing)} for a network namespace of its own."
        return SelfTest(None, unchecked("self-test", lack))
    if by_ebpf:
        return _by_ebpf(inventory, may_load)
    sound = [variant for variant in variants if not variant.complaint]
    if not sound:
        return _skipped("no iptables or nft works.", _INSTALL)
    usable = [variant for variant in sound if works_with(inventory, variant)] or sound
    if may_load:
        return SelfTest(PrivateRun(self_test.intercept, AUTO))
    unloaded: list[str] = []
    for variant in usable:
        would_load = [feature.module for feature in needed(variant) if inventory.presence(feature).would_load]
        if not would_load:
            return SelfTest(PrivateRun(self_test.intercept_without_loading, variant.name))
        unloaded = unloaded or would_load
    return _would_load(unloaded)


def _by_ebpf(inventory: Inventory, may_load: bool) -> SelfTest:
    """Start it. Before Linux 6.6 it needs what may have to be loaded."""
    if may_load:
        return SelfTest(PrivateRun(self_test.intercept, EBPF))
    unloaded = [feature.module for feature in kernel_modules.FOR_FILTERS if inventory.presence(feature).would_load]
    run = PrivateRun(self_test.intercept_without_loading, EBPF)
    return SelfTest(run, _would_load(unloaded).skipped if unloaded else None)


def _would_load(modules: list[str]) -> SelfTest:
    return _skipped(
        f"it would load kernel modules: {', '.join(modules)}.",
        "Run this with --load-modules, which loads what the first validation would load.",
    )


def _skipped(why: str, cure: str) -> SelfTest:
    return SelfTest(None, warned("self-test", f"Skipped: {why}", cure))


def needed(variant: Variant) -> tuple[Feature, ...]:
    """Return what the plugin uses of the kernel with this variant."""
    if variant.backend == NFT:
        return _required(variant)
    backend: tuple[Feature, ...] = kernel_modules.OF_IPTABLES_NFT
    if variant.backend == LEGACY:
        backend = kernel_modules.OF_IPTABLES_LEGACY + (kernel_modules.OF_IP6TABLES_LEGACY if has_ipv6() else ())
    return (*_required(variant), *kernel_modules.FOR_PREFILTER, *backend)


def works_with(inventory: Inventory, variant: Variant) -> bool:
    """Whether the kernel may support everything that this variant requires."""
    return not any(inventory.presence(feature) is Presence.NOT_FOUND for feature in _required(variant))


def _required(variant: Variant | None) -> tuple[Feature, ...]:
    return (
        kernel_modules.QUEUE,
        *(kernel_modules.FOR_NFTABLES if variant and variant.backend == NFT else kernel_modules.FOR_IPTABLES),
    )


def self_test_result(test: SelfTest, seconds: float) -> Iterator[Finding]:
    """Wait for the self-test, at most this many seconds, and yield its result."""
    if not test.run:
        assert test.skipped
        yield test.skipped
        return
    try:
        outcome: self_test.Outcome = test.run.result(seconds)
    except TimeoutError:
        yield warned(
            "self-test",
            f"Did not end within {seconds:.1f} seconds.",
            "Try again. If this happens again, check whether another program holds /run/xtables.lock.",
        )
        return
    except Failed as error:
        yield test.skipped or failed(
            "self-test", f"No interception was possible. {error.cause}", error.cure or "See the lines above."
        )
        return
    for exchange in outcome.exchanges:
        yield _exchange(exchange)
    if outcome.lack:
        cause, cure = outcome.lack
        yield warned(
            "self-test",
            f"Worked only with the selection {outcome.selection}: {cause}",
            f"{cure} Until then, Certbot slows the port down while it validates.",
        )


def _exchange(exchange: self_test.Exchange) -> Finding:
    if exchange.problem:
        return failed(
            "self-test",
            f"IPv{exchange.version}: {exchange.problem}.",
            "Check what may drop packets of local connections: a security module, a BPF program, a sysctl.",
        )
    return passed(
        "self-test",
        f"IPv{exchange.version}: a challenge was answered in {exchange.milliseconds:.0f} ms, "
        "in a network namespace of its own.",
    )
