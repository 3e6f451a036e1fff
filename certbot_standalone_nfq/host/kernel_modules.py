"""What a kernel may lack: the one table of it, which of it is there, and its loading.

What is there is read from depmod's lists and the kernel's own configuration, as running iptables would make the
kernel load what a rule needs.
"""

from __future__ import annotations

import contextlib
import enum
import gzip
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import environment
from certbot_standalone_nfq.host.command import find_program, run

logger = logging.getLogger(__name__)

_MODPROBE_SECONDS = 10.0
_LACK = re.compile(
    r"missing kernel module|No such file|does not exist|insmod|not supported|initialize table|by that name"
    r"|unknown option|line \d+ failed$|^exit status \d+$"
)


@dataclass(frozen=True)
class Feature:
    """Something a kernel may lack: in words, its module and the kernel option that builds it."""

    name: str
    module: str
    option: str


QUEUE = Feature("packet queue for user space", "nfnetlink_queue", "CONFIG_NETFILTER_NETLINK_QUEUE")

NFQUEUE_TARGET = Feature("NFQUEUE target", "xt_NFQUEUE", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE")
MARK = Feature("mark match and target", "xt_mark", "CONFIG_NETFILTER_XT_MARK")
CONNTRACK = Feature("conntrack match", "xt_conntrack", "CONFIG_NETFILTER_XT_MATCH_CONNTRACK")
BPF = Feature("bpf match", "xt_bpf", "CONFIG_NETFILTER_XT_MATCH_BPF")
STRING = Feature("string match", "xt_string", "CONFIG_NETFILTER_XT_MATCH_STRING")
RECENT = Feature("recent match", "xt_recent", "CONFIG_NETFILTER_XT_MATCH_RECENT")
CONNMARK = Feature("connmark match and target", "xt_connmark", "CONFIG_NETFILTER_XT_CONNMARK")
IP_TABLES = Feature("legacy iptables", "ip_tables", "CONFIG_IP_NF_IPTABLES")
MANGLE = Feature("mangle table for iptables", "iptable_mangle", "CONFIG_IP_NF_MANGLE")
IP6_TABLES = Feature("legacy ip6tables", "ip6_tables", "CONFIG_IP6_NF_IPTABLES")
MANGLE_IPV6 = Feature("mangle table for ip6tables", "ip6table_mangle", "CONFIG_IP6_NF_MANGLE")

NF_TABLES = Feature("nftables", "nf_tables", "CONFIG_NF_TABLES")
NFT_CT = Feature("connection tracking for nftables", "nft_ct", "CONFIG_NFT_CT")
NFT_QUEUE = Feature("queue statement for nftables", "nft_queue", "CONFIG_NFT_QUEUE")
NFT_COMPAT = Feature("iptables matches for nftables", "nft_compat", "CONFIG_NFT_COMPAT")
NFT_COUNTER = Feature("counters for nftables", "nft_counter", "CONFIG_NFT_COUNTER")
"""Part of nf_tables since Linux 5.17."""

CLSACT = Feature("clsact queueing discipline", "sch_ingress", "CONFIG_NET_SCH_INGRESS")
CLS_BPF = Feature("bpf classifier", "cls_bpf", "CONFIG_NET_CLS_BPF")

FOR_FILTERS = (CLSACT, CLS_BPF)
"""Required for eBPF where the kernel has no links of TCX."""
FOR_IPTABLES = (NFQUEUE_TARGET, MARK)
"""Required by the rules of iptables."""
FOR_PREFILTER = (CONNTRACK, BPF, CONNMARK)
"""Without these, iptables sends all packets of the port through Certbot."""
FOR_SEARCH = (STRING,)
"""Likewise, for tls-alpn-01."""
FOR_NFTABLES = (NF_TABLES, NFT_CT, NFT_QUEUE)
"""Required by the rules of nft."""
OF_IPTABLES_NFT = (NF_TABLES, NFT_COMPAT, NFT_COUNTER)
OF_IPTABLES_LEGACY = (IP_TABLES, MANGLE)
OF_IP6TABLES_LEGACY = (IP6_TABLES, MANGLE_IPV6)


class Presence(enum.Enum):
    """What is known about a module; the values are the words for it."""

    BUILT_IN = "built in"
    LOADED = "loaded"
    AVAILABLE = "available, not loaded"
    NOT_FOUND = "not found"
    UNKNOWN = "not loaded; cannot determine whether it is built in or loadable"
    """As in a container that sees neither the modules' directory nor the kernel's configuration."""

    @property
    def ready(self) -> bool:
        """Whether it can be used without loading anything."""
        return self in (Presence.BUILT_IN, Presence.LOADED)

    @property
    def would_load(self) -> bool:
        """Whether using it would load it, or might."""
        return self in (Presence.AVAILABLE, Presence.UNKNOWN)


@dataclass(frozen=True)
class Inventory:
    """What the running kernel has, by module name and configuration option."""

    loaded: frozenset[str]
    built_in: frozenset[str]
    loadable: frozenset[str] | None
    """None if there is no list of them."""
    options: dict[str, str]
    """The configuration's options that are set, to y or m; empty if the configuration cannot be read."""

    def presence(self, feature: Feature) -> Presence:
        """Return what is known about a feature's module."""
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
    """Read the lists and the configuration; what cannot be read is left out."""
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
    """Return a file's lines that are not empty, or None if it cannot be read. A name in .gz is unpacked."""
    with contextlib.suppress(OSError, EOFError):
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        return [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return None


def load(*features: Feature) -> None:
    """Try to load the modules of features. A failure is not an error: what is missing shows where it is used."""
    modprobe = find_program("modprobe")
    if not modprobe:
        return
    for module in dict.fromkeys(feature.module for feature in features):
        result = run([modprobe, "--quiet", module], seconds=_MODPROBE_SECONDS)
        logger.debug("modprobe %s: %s", module, result.complaint or "succeeded")


def is_lack(complaint: str) -> bool:
    """Whether a firewall program's complaint is that the kernel does not have what a rule needs.

    "line 3 failed" is all that iptables-legacy says of a rule with a match or target that the kernel does not know;
    an exit status is what is told of a program that says nothing.
    """
    return bool(_LACK.search(complaint))


def lack(feature: Feature) -> errors.KernelSupportMissing:
    """Return the error for a feature that this kernel lacks."""
    return errors.KernelSupportMissing(feature.name, feature.module, feature.option, environment.place())
