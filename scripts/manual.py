"""Make the manual page and the shells' completions from the program's parser: `python3 -m scripts.manual`.

They are kept in the repository, so that building a package takes neither of the libraries: Debian's are older, and know
nothing of fish.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import shtab

from certbot_standalone_nfq.cli.parser import COMMANDS, PROGRAM, parser

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "share"
PAGE = f"man/man1/{PROGRAM}.1"
COMPLETIONS = {
    "bash": f"bash-completion/completions/{PROGRAM}",
    "zsh": f"zsh/site-functions/_{PROGRAM}",
    "fish": f"fish/vendor_completions.d/{PROGRAM}.fish",
}
"""Where each shell looks below a folder `share`."""
_COMPLETED = {"FILE": shtab.FILE, "FOLDER": shtab.DIRECTORY, "NAME": {"zsh": "()"}}
"""What completes a value, by its name in the help. Of names zsh has to be told that there are none, or it completes no
options either."""
_DATE = "1795651200"
"""Of the page, in seconds since the epoch: 2026-11-26."""
_SECTIONS = """[>ENVIRONMENT]
.TP
.B NO_COLOR
If it is set and not empty, no colours are used. Without a terminal none are.
.TP
.B PATH
Firewall programs are looked for there, and in the sbin directories.
[>FILES]
.TP
.I /etc/letsencrypt/renewal/*.conf
What Certbot renews its certificates with.
.TP
.I /etc/letsencrypt/cli.ini
Options for all of its runs.
[>EXAMPLES]
.TP
.B certbot\\-standalone\\-nfq doctor \\-d www.example.com
Before the first certificate: check what its validation will need.
.TP
.B certbot\\-standalone\\-nfq doctor \\-\\-renewals \\-\\-quiet \\-\\-strict
From a timer: if a certificate was not renewed in time, or its renewal lacks something, say so and exit with 1.
.TP
.B certbot\\-standalone\\-nfq watch
Show requests of any validation until Ctrl\\-C.
[>SEE ALSO]
.BR certbot (1),
.BR iptables (8),
.BR nft (8)
"""


def page() -> str:
    """Return the manual page."""
    with tempfile.NamedTemporaryFile("w", suffix=".include") as include:
        include.write("".join(_exit_statuses()) + _SECTIONS)
        include.flush()
        command = [str(Path(sys.executable).with_name("argparse-manpage")), *_options(include.name)]
        environment = {**os.environ, "COLUMNS": "80", "SOURCE_DATE_EPOCH": _DATE, "PYTHONPATH": str(ROOT)}
        made = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    header, end, rest = made.partition("\n")
    return header.replace(r"\-", "-") + end + rest  # mandoc reads no date with escapes


def _options(include: str) -> Iterator[str]:
    options = {
        "module": parser.__module__,
        "function": parser.__name__,
        "project-name": PROGRAM,
        "description": "check what Certbot's standalone-nfq plugin needs, watch validations, answer them",
        "manual-title": "User Commands",
        "format": "single-commands-section",
        "include": include,
    }
    for name, value in options.items():
        yield from (f"--{name}", value)


def _exit_statuses() -> Iterator[str]:
    """Yield the section of that name, as the library does not show what help ends with."""
    yield "[>EXIT STATUS]\n"
    for command in COMMANDS:
        for number, meaning in command.statuses.items():
            yield f".TP\n.B {command.name}: {number}\nif {meaning.replace('-', chr(92) + '-')}.\n"


def completion(shell: str) -> str:
    """Return what completes the program's arguments in a shell."""
    whole = parser()
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for command in COMMANDS:
        one = commands.choices[command.name]
        one.description = command.help  # the shells show it on a line
        for action in one._actions:
            if action.metavar in _COMPLETED:
                action.complete = _COMPLETED[action.metavar]
    return f"{shtab.complete(whole, shell=shell).rstrip()}\n"


def files() -> dict[str, str]:
    """Return the content of all files, by their paths below the folder."""
    return {PAGE: page(), **{path: completion(shell) for shell, path in COMPLETIONS.items()}}


if __name__ == "__main__":
    for path, content in files().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(content)
