"""What is going to be validated."""

from __future__ import annotations

from dataclasses import dataclass

from certbot_standalone_nfq.settings import AUTO


@dataclass(frozen=True)
class Need:
    """A port, and the names that are validated on it."""

    port: int
    typ: str = ""
    """The type of challenge; empty for the one that Certbot takes for each name by itself."""
    names: tuple[str, ...] = ()
    capture: str = AUTO
    """How packets are to be captured."""
