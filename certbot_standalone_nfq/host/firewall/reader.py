"""The programs that show firewall rules: which are installed, and what they show.

None is run that would make the kernel load a module: the legacy variant's tables are read only if the kernel has some,
and nf_tables' only if it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq.host.command import Deadline, Result, find_program, run
from certbot_standalone_nfq.host.firewall import iptables_save, nft_json
from certbot_standalone_nfq.host.firewall import rules as ruleset
from certbot_standalone_nfq.host.kernel_modules import Presence
from certbot_standalone_nfq.settings import FIREWALLS, NFTABLES

NF_TABLES, LEGACY, NFT = "nf_tables", "legacy", "nft"
_PROTOCOLS = {4: "ip", 6: "ip6"}
_SECONDS_PER_PROGRAM = 1.0


@dataclass(frozen=True)
class Variant:
    """A program that can add rules: its path and version, and which of the kernel's interfaces it uses."""

    name: str
    """As in the firewall option."""
    path: str
    version: str
    backend: str
    complaint: str = ""
    """Why it cannot be used, in words; empty if it can."""


@dataclass(frozen=True)
class Rules:
    """What one program showed."""

    program: str
    backend: str
    tables: tuple[ruleset.Table, ...]
    text: str = ""
    complaint: str = ""

    @property
    def any(self) -> bool:
        """Whether there are any rules, or policies other than to accept."""
        return any(table.rules or any(hook.refuses for hook in table.hooks) for table in self.tables)


def variants(deadline: Deadline) -> list[Variant]:
    """Return the installed programs that the plugin would try, in its order."""
    found: list[Variant] = []
    for name in FIREWALLS:
        if name == NFTABLES:
            continue
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
    return Variant(NFTABLES, path, words[1].lstrip("v") if len(words) > 1 else "?", NFT, output.complaint)


def read_rules(variants_: list[Variant], nf_tables: Presence, deadline: Deadline) -> list[Rules]:
    """Return what the programs show: each variant of iptables once, for both IP versions, then nft."""
    found: list[Rules] = []
    by_backend = {variant.backend: variant for variant in reversed(variants_) if variant.backend != NFT}
    for backend, variant in by_backend.items():
        for version in (4, 6):
            if nf_tables.ready if backend == NF_TABLES else _has_legacy_tables(version):
                found += _saved(variant, version, deadline)
    nft = find_program("nft")
    if nf_tables is Presence.UNKNOWN:
        found.append(Rules("nft", NFT, (), complaint="cannot determine whether the kernel has nf_tables loaded"))
    elif nft and nf_tables.ready:
        found.append(_listed(nft, NF_TABLES in by_backend, deadline))
    return found


def _has_legacy_tables(version: int) -> bool:
    names = Path(f"/proc/thread-self/net/{_PROTOCOLS[version]}_tables_names")
    try:
        return bool(names.read_text(encoding="ascii").strip())
    except PermissionError:
        return True  # the program will say so in words
    except OSError:
        return False


def _saved(variant: Variant, version: int, deadline: Deadline) -> list[Rules]:
    program = variant.name if version == 4 else variant.name.replace("ip", "ip6", 1)
    path = find_program(f"{program}-save")
    if not path:
        return []
    output = _run([path], deadline)
    if output.complaint:
        return [Rules(program, variant.backend, (), complaint=output.complaint)]
    try:
        tables = iptables_save.tables(output.stdout, program, version)
    except (ValueError, IndexError):
        return [Rules(program, variant.backend, (), output.stdout, "its output could not be parsed")]
    return [Rules(program, variant.backend, tuple(tables), output.stdout)]


def _listed(nft: str, without_iptables: bool, deadline: Deadline) -> Rules:
    output = _run([nft, "--json", "list", "ruleset"], deadline)
    if output.complaint:
        return Rules("nft", NFT, (), complaint=output.complaint)
    try:
        tables = nft_json.tables(output.stdout, without_iptables)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return Rules("nft", NFT, (), output.stdout, "its output could not be parsed")
    return Rules("nft", NFT, tuple(tables), output.stdout)


def _run(command: list[str], deadline: Deadline) -> Result:
    return run(command, seconds=min(_SECONDS_PER_PROGRAM, deadline.remaining()))
