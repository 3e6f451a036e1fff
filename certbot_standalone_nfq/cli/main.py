"""Tools around the standalone-nfq plugin of Certbot, which work without Certbot too."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.version import ShowVersion
from certbot_standalone_nfq.session import requirements


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status. Raises SystemExit(2) for invalid arguments."""
    # The package's log is for Certbot, and findings say in our own words what scapy warns about.
    logging.getLogger("certbot_standalone_nfq").addHandler(logging.NullHandler())
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    try:
        requirements.load_scapy()
    except errors.Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    arguments = _parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    """Return the parser; each subcommand sets `run`, a function from the arguments to the exit status."""
    from certbot_standalone_nfq.cli import watch
    from certbot_standalone_nfq.cli.doctor import examine as doctor

    parser = argparse.ArgumentParser(prog="certbot-standalone-nfq", description=__doc__)
    parser.add_argument("--version", nargs=0, action=ShowVersion, help="show the versions of all that matters and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    doctor.add_parser(commands)
    watch.add_parser(commands)
    return parser
