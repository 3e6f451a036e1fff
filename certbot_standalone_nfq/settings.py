"""What the user may choose. Each default is defined here, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """What the user chose; everything but the port finds itself."""

    port: int
    queue: int | None = None
    mark: int | None = None
    """A mask of two bits."""
    firewall: str = AUTO
    queue_client: str = AUTO
    selection: str = AUTO
