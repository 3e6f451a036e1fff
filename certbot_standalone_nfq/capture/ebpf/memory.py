"""The memory that a process may lock, which maps and programs count as before Linux 5.11."""

from __future__ import annotations

import resource

_LOCKED_BYTES = 64 << 20
"""Enough for the maps and programs of captures on three ports, each of which takes some 10 MB."""


def may_lock_more() -> bool:
    """Whether this process may lock more memory now than it could before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft >= _LOCKED_BYTES:
        return False
    try:
        enough = hard if hard == resource.RLIM_INFINITY else max(hard, _LOCKED_BYTES)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (_LOCKED_BYTES, enough))
    except (OSError, ValueError):
        return False
    return True
