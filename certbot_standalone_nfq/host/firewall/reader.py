"""The programs that show firewall rules: which are installed, and what they show.

None is run that would make the kernel load a module for nothing: the legacy variant's tables are read only if the
kernel has some, and nf_tables' only if it is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.command import Deadline, Result, find_program, run
from certbot_standalone_nfq.host.firewall import iptables_save, nft_json
from certbot_standalone_nfq.host.firewall.rules import Rule, Table
from certbot_standalone_nfq.host.kernel_modules import Presence, inventory
from certbot_standalone_nfq.wire.addresses import VERSIONS

logger = logging.getLogger(__name__)

IPTABLES = ("iptables", "iptables-nft", "iptables-legacy")
"""The programs, the administrator's own choice of a variant first."""
NF_TABLES, LEGACY, NFT = "nf_tables", "legacy", "nft"
_PROTOCOLS = {4: "ip", 6: "ip6"}
_PATIENCE, _PATIENCE_PER_PROGRAM = 30.0, 10.0
"""Seconds for a validation, which depends on the rules, of which there may be many."""


@dataclass(frozen=True)
class Variant:
    """A program that can add rules: its path and version, and which of the kernel's interfaces it uses."""

    name: str
    """As in the option that chooses a way to capture."""
    path: str
    version: str
    backend: str
    complaint: str = ""
    """Why it cannot be used, in words; empty if it can."""


@dataclass(frozen=True)
class Listing:
    """What one program showed."""

    program: str
    backend: str
    tables: tuple[Table, ...] = ()
    text: str = ""
    complaint: str = ""
    """Why it could not be read, in words; empty if it could."""
    read_over: Callable[[Transport], Sequence[Table]] = lambda _: ()
    """Returns the tables as packets over another transport than TCP meet them."""

    @property
    def complete(self) -> bool:
        """Whether nothing was left out: iptables does not show tables in which nft has added what it cannot express."""
        return not self.complaint and not iptables_save.is_incomplete(self.text)

    @property
    def any(self) -> bool:
        """Whether there are any rules, or policies other than to accept."""
        return any(table.rules or any(hook.refuses for hook in table.hooks) for table in self.tables)


@dataclass(frozen=True)
class Snapshot:
    """The firewall rules of this network namespace at one moment, by all programs that show some."""

    listings: tuple[Listing, ...] = ()

    @property
    def tables(self) -> list[Table]:
        """All tables that were shown, as packets over TCP meet them."""
        return [table for listing in self.listings for table in listing.tables]

    def over(self, transport: Transport) -> list[Table]:
        """Return all tables that were shown, as packets over a transport meet them."""
        if transport is Transport.TCP:
            return self.tables
        return [table for listing in self.listings for table in listing.read_over(transport)]

    @property
    def rules(self) -> list[Rule]:
        """All rules that were shown."""
        return [rule for table in self.tables for rule in table.rules]

    @property
    def text(self) -> str:
        """What the programs printed."""
        return "\n".join(listing.text for listing in self.listings)


def take_snapshot() -> Snapshot:
    """Read all rules, for a validation. What cannot be read is noted in the log, and is not an error."""
    deadline = Deadline(_PATIENCE, step=_PATIENCE_PER_PROGRAM)
    nf_tables = inventory().presence(kernel_modules.NF_TABLES)
    snapshot = read_rules(variants(deadline), nf_tables, deadline, may_load=True)
    for listing in snapshot.listings:
        if listing.complaint:
            logger.debug("The rules could not be read: %s: %s", listing.program, listing.complaint)
    return snapshot


def variants(deadline: Deadline) -> list[Variant]:
    """Return the installed programs that the plugin would try, in its order."""
    found: list[Variant] = []
    for name in IPTABLES:
        paths = [find_program(f"{name}{suffix}") for suffix in ("", "-save", "-restore")]
        path = paths[0]
        if path and all(paths):
            found.append(_variant(name, path, deadline))
    nft = find_program("nft")
    return [*found, _nft(nft, deadline)] if nft else found


def _variant(name: str, path: str, deadline: Deadline) -> Variant:
    output = _run([path, "--version"], deadline)
    words = output.stdout.split()  # such as: iptables v1.8.9 (nf_tables)
    version = words[1].lstrip("v") if len(words) > 1 else "?"
    backend = NF_TABLES if words[2:3] == [f"({NF_TABLES})"] else LEGACY
    return Variant(name, path, version, backend, output.complaint)


def _nft(path: str, deadline: Deadline) -> Variant:
    output = _run([path, "--version"], deadline)
    words = output.stdout.split()  # such as: nftables v1.0.6 (Lester Gooch #5)
    return Variant("nftables", path, words[1].lstrip("v") if len(words) > 1 else "?", NFT, output.complaint)


def read_rules(
    variants_: list[Variant], nf_tables: Presence, deadline: Deadline, *, may_load: bool = False
) -> Snapshot:
    """Return what the programs show: each variant of iptables once, for both IP versions, then nft.

    `may_load` says what to do where the kernel does not show whether it has nf_tables loaded: run the programs, and so
    load it, or not.
    """
    run_nf_tables = nf_tables.ready or (may_load and nf_tables is Presence.UNKNOWN)
    by_backend = {variant.backend: variant for variant in reversed(variants_) if variant.backend != NFT}
    found: list[Listing] = []
    for backend, variant in by_backend.items():
        for version in VERSIONS:
            if run_nf_tables if backend == NF_TABLES else _has_legacy_tables(version):
                found += _saved(variant, version, deadline)
    nft = find_program("nft")
    if nft and run_nf_tables:
        by_iptables = [listing for listing in found if listing.backend == NF_TABLES]
        found.append(_listed(nft, bool(by_iptables) and all(each.complete for each in by_iptables), deadline))
    elif nf_tables is Presence.UNKNOWN:
        found.append(Listing("nft", NFT, complaint="cannot determine whether the kernel has nf_tables loaded"))
    return Snapshot(tuple(found))


def _has_legacy_tables(version: int) -> bool:
    names = Path(f"/proc/thread-self/net/{_PROTOCOLS[version]}_tables_names")
    try:
        return bool(names.read_text(encoding="ascii").strip())
    except PermissionError:
        return True  # the program will say so in words
    except OSError:
        return False


def _saved(variant: Variant, version: int, deadline: Deadline) -> list[Listing]:
    program = variant.name if version == 4 else variant.name.replace("ip", "ip6", 1)
    path = find_program(f"{program}-save")
    if not path:
        return []
    output = _run([path], deadline)
    if output.complaint:
        return [Listing(program, variant.backend, complaint=output.complaint)]
    read_over = cache(partial(iptables_save.tables, output.stdout, program, version))
    try:
        tables = read_over(Transport.TCP)
    except (ValueError, IndexError):
        return [Listing(program, variant.backend, (), output.stdout, "its output could not be parsed")]
    return [Listing(program, variant.backend, tuple(tables), output.stdout, read_over=read_over)]


def _listed(nft: str, without_iptables: bool, deadline: Deadline) -> Listing:
    output = _run([nft, "--json", "list", "ruleset"], deadline)
    if output.complaint:
        return Listing("nft", NFT, complaint=output.complaint)
    read_over = cache(partial(nft_json.tables, output.stdout, without_iptables))
    try:
        tables = read_over(Transport.TCP)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return Listing("nft", NFT, (), output.stdout, "its output could not be parsed")
    return Listing("nft", NFT, tuple(tables), output.stdout, read_over=read_over)


def _run(command: list[str], deadline: Deadline) -> Result:
    return run(command, seconds=deadline.for_step())
