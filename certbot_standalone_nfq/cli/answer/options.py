"""What the command line of `answer` may say."""

from __future__ import annotations

import argparse
from pathlib import Path

from certbot_standalone_nfq.cli import arguments
from certbot_standalone_nfq.settings import AUTO, CAPTURES, DEFAULT_PORTS, HTTP_01, OPTIONS

_SHARED = ("queue-num", "mark", "queue-client")
"""Options of the plugin that mean the same here."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    one = parser.add_argument
    arguments.add_domains(parser, "names", "a name or an address; several separated by commas, or the option repeated")
    add_account(parser)
    arguments.add_config_dir(parser, "Certbot's, where that account is")
    one("--config", type=Path, metavar="FILE", help="a file with a name, and perhaps a thumbprint, on each line")
    port = DEFAULT_PORTS[HTTP_01]
    one("--port", type=arguments.port, default=port, help=f"the port that clients address (default: {port})")
    one("--listen", action="store_true", help="accept connections where no server does, which then cannot start")
    one("--capture", choices=[AUTO, *CAPTURES], default=AUTO, help="how to capture (default: the first that works)")
    for option in OPTIONS:
        if option.name in _SHARED:
            one(f"--{option.name}", **option.arguments())


def add_account(parser: argparse.ArgumentParser) -> None:
    """Add those that say whose thumbprint it is; `--config-dir` goes with them."""
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--thumbprint", default="", help="the account's, as 'certbot show_account' prints it")
    whose.add_argument("--account", action="store_true", help="take that of Certbot's account on this machine")
    parser.add_argument(
        "--server", default="", metavar="URL", help="the CA that it is at, if Certbot has accounts at several"
    )
