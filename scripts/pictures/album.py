"""Which pictures there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from scripts.pictures import at_a_glance, cost, packet_path, terminal

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"

PICTURES: dict[str, Callable[[], str]] = {
    "at-a-glance.svg": at_a_glance.svg,
    "cost.svg": cost.svg,
    "packet-path.svg": packet_path.svg,
    **{f"{name}.svg": functools.partial(terminal.svg, name) for name in terminal.names()},
}
"""Each file, and what draws it."""
