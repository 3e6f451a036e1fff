"""What the subcommands' arguments share."""

from __future__ import annotations

import argparse
from pathlib import Path

from certbot_standalone_nfq.settings import DEFAULT_PORTS, DNS_01, HTTP_01

CONFIG_DIR = Path("/etc/letsencrypt")
"""Certbot's default."""


def port(text: str) -> int:
    """Read the number of a TCP port, for argparse. Raises ValueError or argparse.ArgumentTypeError."""
    number = int(text)
    if not 0 < number <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{number} is not a number from 1 to 65535")
    return number


def add_challenge_and_port(parser: argparse.ArgumentParser, what: str, default: str = "") -> None:
    """Add the options `--challenge`, with its default if there is one for all names, and `--port`; see `chosen`."""
    by_name = f"{HTTP_01}, and {DNS_01} for wildcards"
    parser.add_argument(
        "--challenge",
        choices=list(DEFAULT_PORTS),
        default=default or None,
        help=f"the type of challenge (default: {default or by_name})",
    )
    ports = ", ".join(f"{number} for {typ}" for typ, number in DEFAULT_PORTS.items())
    parser.add_argument("--port", type=port, help=f"{what} (default: {ports})")


def chosen(options: argparse.Namespace) -> tuple[str, int]:
    """Return the type of challenge that was asked for, if any, and the port."""
    typ = options.challenge or ""
    return typ, options.port or DEFAULT_PORTS[typ or HTTP_01]


def add_config_dir(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that Certbot has by this name, too."""
    parser.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIR, metavar="FOLDER", help=f"{what} (default: {CONFIG_DIR})"
    )


def add_names(parser: argparse.ArgumentParser, what: str) -> None:
    """Add names, as arguments or by Certbot's options for them; see `names`."""
    add_domains(parser, "domains", "the same, as Certbot takes it: several separated by commas, or the option repeated")
    parser.add_argument("names", nargs="*", metavar="NAME", help=what)


def add_domains(parser: argparse.ArgumentParser, destination: str, what: str) -> None:
    """Add Certbot's options for names; their value is a list."""
    options = ("-d", "--domains", "--domain", "--ip-address")
    parser.add_argument(*options, dest=destination, action="extend", type=_names, default=[], metavar="NAME", help=what)


def names(options: argparse.Namespace) -> list[str]:
    """Return the names that were given in either way."""
    return [*options.names, *options.domains]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
