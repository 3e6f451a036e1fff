"""Which kernel modules are there, found out without loading any.

The lists of depmod and the kernel's own configuration are read. Running iptables would tell too, but has the kernel
load what a rule needs.
"""

from __future__ import annotations

import contextlib
import enum
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq.host.privileges import Feature

XTABLES = (
    Feature("NFQUEUE target", "xt_NFQUEUE", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE"),
    Feature("mark match and target", "xt_mark", "CONFIG_NETFILTER_XT_MARK"),
)
"""Without these, iptables is of no use."""
PREFERRED = (
    Feature("conntrack match", "xt_conntrack", "CONFIG_NETFILTER_XT_MATCH_CONNTRACK"),
    Feature("bpf match", "xt_bpf", "CONFIG_NETFILTER_XT_MATCH_BPF"),
    Feature("connmark match and target", "xt_connmark", "CONFIG_NETFILTER_XT_CONNMARK"),
)
"""Without these, iptables leads all packets of the port through Certbot."""
NFTABLES = (
    Feature("nf_tables", "nf_tables", "CONFIG_NF_TABLES"),
    Feature("connection tracking in nf_tables", "nft_ct", "CONFIG_NFT_CT"),
    Feature("queue statement in nf_tables", "nft_queue", "CONFIG_NFT_QUEUE"),
)
"""Without these, nft is of no use."""
NF_TABLES = (
    Feature("nf_tables", "nf_tables", "CONFIG_NF_TABLES"),
    Feature("iptables' matches in nf_tables", "nft_compat", "CONFIG_NFT_COMPAT"),
    Feature("counters in nf_tables", "nft_counter", "CONFIG_NFT_COUNTER"),  # within nf_tables since Linux 5.17
)
LEGACY = (
    Feature("legacy iptables", "ip_tables", "CONFIG_IP_NF_IPTABLES"),
    Feature("mangle table of legacy iptables", "iptable_mangle", "CONFIG_IP_NF_MANGLE"),
)
LEGACY_IPV6 = (
    Feature("legacy ip6tables", "ip6_tables", "CONFIG_IP6_NF_IPTABLES"),
    Feature("mangle table of legacy ip6tables", "ip6table_mangle", "CONFIG_IP6_NF_MANGLE"),
)


class Presence(enum.Enum):
    """What is known of a module; the values are the words for it."""

    BUILT_IN = "built in"
    LOADED = "loaded"
    AVAILABLE = "available, not loaded"
    NOT_FOUND = "not found"
    UNKNOWN = "not loaded, and whether it is built in or could be loaded is not shown here"
    """As in a container that has neither the modules' folder nor the kernel's configuration."""

    @property
    def ready(self) -> bool:
        """Whether it can be used without loading anything."""
        return self in (Presence.BUILT_IN, Presence.LOADED)

    @property
    def would_load(self) -> bool:
        """Whether using it would, or might, load it."""
        return self in (Presence.AVAILABLE, Presence.UNKNOWN)


@dataclass(frozen=True)
class Inventory:
    """What the running kernel has, by module name and configuration option."""

    loaded: frozenset[str]
    built_in: frozenset[str]
    loadable: frozenset[str] | None
    """None if there is no list of them here."""
    options: dict[str, str]
    """The configuration's options that are set, y or m; none at all if it is not shown."""

    def presence(self, feature: Feature) -> Presence:
        """Say how a feature's module is there."""
        if feature.module in self.loaded:
            return Presence.LOADED
        if feature.module in self.built_in or self.options.get(feature.option) == "y":
            return Presence.BUILT_IN
        if self.loadable is not None:
            return Presence.AVAILABLE if feature.module in self.loadable else Presence.NOT_FOUND
        if self.options and feature.option not in self.options:
            return Presence.NOT_FOUND
        return Presence.UNKNOWN


def inventory(root: Path = Path("/")) -> Inventory:
    """Read what there is to read. What cannot be read is left out."""
    release = os.uname().release
    folder = root / "lib" / "modules" / release
    built_in = _lines(folder / "modules.builtin") or []
    loadable = _lines(folder / "modules.dep")
    loaded = _lines(root / "proc" / "modules") or []
    configuration = (
        _lines(root / "proc" / "config.gz")
        or _lines(root / "boot" / f"config-{release}")
        or _lines(folder / "config")
        or []
    )
    return Inventory(
        frozenset(line.split()[0] for line in loaded),
        frozenset(_module_name(line) for line in built_in),
        None if loadable is None else frozenset(_module_name(line.partition(":")[0]) for line in loadable),
        dict(_options(configuration)),
    )


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _options(configuration: list[str]) -> Iterator[tuple[str, str]]:
    for line in configuration:
        name, _, value = line.partition("=")
        if name.startswith("CONFIG_") and value in ("y", "m"):
            yield name, value


def _lines(path: Path) -> list[str] | None:
    """Return a file's lines that are not empty, unpacked if need be, or None if it cannot be read."""
    with contextlib.suppress(OSError, EOFError):
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        return [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return None
