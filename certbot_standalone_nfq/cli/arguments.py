"""What the subcommands' arguments have in common."""

from __future__ import annotations

import argparse


def port(text: str) -> int:
    """Read the number of a TCP port, for argparse. Raises ValueError or argparse.ArgumentTypeError."""
    number = int(text)
    if not 0 < number <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{number} is not a number from 1 to 65535")
    return number
