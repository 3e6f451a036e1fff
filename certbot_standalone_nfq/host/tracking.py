"""Whether the kernel tracks connections."""

from __future__ import annotations

from pathlib import Path

_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def in_use() -> bool:
    """Whether any connection of this network namespace is tracked."""
    try:
        return int(_COUNT.read_text(encoding="ascii")) > 0
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
