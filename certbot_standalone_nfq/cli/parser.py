"""What the program's command line may say. The manual page and the shells' completions are made from it, too.

What a command does is loaded only when it runs, as its dependencies may be missing or broken.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from certbot_standalone_nfq.cli import arguments
from certbot_standalone_nfq.cli.answer import options as answer
from certbot_standalone_nfq.cli.version import ShowVersion
from certbot_standalone_nfq.settings import HTTP_01

PROGRAM = "certbot-standalone-nfq"
_DESCRIPTION = "Tools around the standalone-nfq plugin of Certbot, which work without Certbot too."


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    name: str
    help: str
    """A line for the list of commands."""
    description: str
    usage: str
    """What may come behind its name."""
    module: str
    """What is loaded to run it: a module with a function `run`, from the arguments to the exit status."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    statuses: Mapping[int, str]
    """What each exit status means."""

    @property
    def epilog(self) -> str:
        """What help ends with."""
        return f"Exit status: {'; '.join(f'{number} if {meaning}' for number, meaning in self.statuses.items())}."


def parser() -> argparse.ArgumentParser:
    """Return the parser. It sets `module` to that of the command."""
    whole = argparse.ArgumentParser(prog=PROGRAM, description=_DESCRIPTION)
    whole.add_argument("--version", nargs=0, action=ShowVersion, help="show the versions of all that matters and exit")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.help,
            usage=f"{PROGRAM} {command.name} {command.usage}",
            description=command.description,
            epilog=command.epilog,
        )
        command.add_arguments(one)
        one.set_defaults(module=command.module)
    return whole


def _doctor(parser: argparse.ArgumentParser) -> None:
    arguments.add_challenge_and_port(parser, "the port that clients address")
    parser.add_argument("--json", action="store_true", help="print an object for programs instead of lines")
    parser.add_argument(
        "--load-modules", action="store_true", help="load the kernel modules that the first validation would load"
    )
    parser.add_argument(
        "--renewals",
        action="store_true",
        help="look at Certbot's certificates, all or those with the names given, and at what renewing them will need",
    )
    arguments.add_config_dir(parser, "where Certbot has them")
    answer.add_account(parser)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print only what did not pass, and nothing if all did"
    )
    parser.add_argument("--strict", action="store_true", help="have warnings count for the exit status like fails")
    arguments.add_names(parser, "a name or address for the certificate")


def _watch(parser: argparse.ArgumentParser) -> None:
    arguments.add_challenge_and_port(parser, "the port to look at", default=HTTP_01)
    parser.add_argument("--pcap", type=Path, metavar="FILE", help="write the validation's packets to a file")
    arguments.add_names(parser, "show only requests for this name (default: for any)")


_STATUSES = {2: "the arguments are wrong"}
"""What they mean with each command."""

COMMANDS = (
    Command(
        "doctor",
        "check what a validation will need",
        "Check everything that a validation needs, without a CA and without changing anything. Only the self-test adds "
        "rules, in a network namespace of its own that ends with it. All of it takes less than five seconds.",
        "[OPTION...] [NAME...]",
        "certbot_standalone_nfq.cli.doctor.command",
        _doctor,
        {
            0: "there is no fail",
            1: "there is a fail, or, with --strict, a warning",
            **_STATUSES,
        },
    ),
    Command(
        "watch",
        "show validation requests as they arrive",
        "Show challenge requests as they arrive, and what this machine answers to them, whichever ACME client "
        "validates. Nothing is answered and nothing is changed. Ctrl-C ends it and prints a table of everything that "
        "was seen.",
        "[OPTION...] [NAME...]",
        "certbot_standalone_nfq.cli.watch",
        _watch,
        {
            0: "it was ended by Ctrl-C or SIGTERM",
            1: "connections cannot be watched, or the file cannot be written",
            **_STATUSES,
        },
    ),
    Command(
        "answer",
        "answer any token of an account, as a service",
        "Answer http-01 requests for any token of an account, for names that this machine shares with others, until "
        "it is stopped. The server on the port keeps the port. On SIGHUP, the file is read again.",
        "[OPTION...]",
        "certbot_standalone_nfq.cli.answer.program",
        answer.add,
        {0: "it was stopped by Ctrl-C or SIGTERM", 1: "it cannot answer, and says why", **_STATUSES},
    ),
)
