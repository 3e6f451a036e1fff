"""Which features of the kernel the rules use, each with a rule that uses nothing else. Nothing here runs a program."""

from __future__ import annotations

from collections.abc import Iterator

from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.kernel_modules import Feature

TABLES = {4: kernel_modules.MANGLE, 6: kernel_modules.MANGLE_IPV6}
MEMORY = "-m recent --rcheck"
"""Of the rules for untracked packets; the others do without."""
_PROBES = (
    ("-m conntrack --ctdir ORIGINAL", kernel_modules.CONNTRACK),
    ('-m bpf --bytecode "1,6 0 0 0"', kernel_modules.BPF),
    ("-m string --algo kmp --string x", kernel_modules.STRING),
    ("-m mark --mark 0x1/0x1", kernel_modules.MARK),
    ("-m connmark --mark 0x1/0x1", kernel_modules.CONNMARK),
    (MEMORY, kernel_modules.RECENT),
    ("-j MARK --set-xmark 0x0/0x1", kernel_modules.MARK),
    ("-j CONNMARK --set-xmark 0x0/0x1", kernel_modules.CONNMARK),
    ("-j NFQUEUE --queue-num 0 --queue-bypass", kernel_modules.NFQUEUE_TARGET),
)


def probes(script: str, version: int) -> Iterator[tuple[str, Feature]]:
    """Yield each feature that a script for an IP version uses, with a rule that uses nothing else."""
    yield "", TABLES[version]
    yield from (probe for probe in _PROBES if " ".join(probe[0].split()[:2]) in script)
