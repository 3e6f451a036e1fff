"""What the subcommands' arguments share."""

from __future__ import annotations

import argparse

from certbot_standalone_nfq.settings import DEFAULT_PORTS, HTTP_01


def port(text: str) -> int:
    """Read the number of a TCP port, for argparse. Raises ValueError or argparse.ArgumentTypeError."""
    number = int(text)
    if not 0 < number <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{number} is not a number from 1 to 65535")
    return number


def add_port(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option `--port`, described by what it is."""
    parser.add_argument("--port", type=port, default=DEFAULT_PORTS[HTTP_01], help=f"{what} (default: %(default)s)")
