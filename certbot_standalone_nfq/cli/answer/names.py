"""The names to answer for, and the thumbprint of each: from the command line, and from a file.

A line of the file is a name, or a name and a thumbprint. A name alone goes with the command line's thumbprint. What
stands behind a # is a remark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges.http01 import host
from certbot_standalone_nfq.challenges.http01.any_token import THUMBPRINT
from certbot_standalone_nfq.cli.answer.accounts import FROM_CERTBOT

MAX_NAMES = 1000
"""Each is a claim, which takes an open file."""
_LONGEST_FILE = 1 << 20


def wanted(names: Iterable[str], thumbprint: str, file: Path | None) -> dict[str, str]:
    """Return the names to answer for with their thumbprints. The one given may be empty. Raises errors.BadOption."""
    found: dict[str, str] = {}
    given = [("The command line", name, thumbprint) for name in names]
    for where, name, print_ in [*given, *(_lines(file, thumbprint) if file else ())]:
        normal = _normal(where, name)
        _require_thumbprint(where, name, print_)
        if found.setdefault(normal, print_) != print_:
            raise errors.BadOption(f"{where} names {name} with a second thumbprint.", "Remove one of them.")
    if not found:
        raise errors.BadOption("There is no name to answer for.", "Give names with -d, or a file with --config.")
    if len(found) > MAX_NAMES:
        raise errors.BadOption(f"There are {len(found)} names.", f"Give at most {MAX_NAMES} to one process.")
    return found


def _lines(file: Path, thumbprint: str) -> Iterator[tuple[str, str, str]]:
    """Yield where each name stands, the name and its thumbprint."""
    for number, line in enumerate(_read(file).splitlines(), 1):
        words = line.partition("#")[0].split()
        where = f"Line {number} of {file}"
        if len(words) > 2:
            raise errors.BadOption(f"{where} has more than two words.", "Write a name and a thumbprint on each line.")
        if words:
            yield where, words[0], words[1] if len(words) == 2 else thumbprint


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise errors.BadOption(f"{file} cannot be read: {reason}.", "Give a text file with --config.") from error
    if len(text) > _LONGEST_FILE:
        raise errors.BadOption(f"{file} has more than {_LONGEST_FILE} characters.", "Give a file with names only.")
    return text


def _normal(where: str, name: str) -> str:
    if name.startswith("*."):
        raise errors.BadOption(f"{where} names {name}, a wildcard.", "Use dns-01 for it: http-01 cannot validate it.")
    try:
        return host.normal(name)
    except ValueError as error:
        cure = "Give a name in its ASCII form, such as xn--bcher-kva.example, or an address."
        raise errors.BadOption(f"{where} names {name!r}, which is no domain name.", cure) from error


def _require_thumbprint(where: str, name: str, thumbprint: str) -> None:
    if not thumbprint:
        cure = "Give it behind the name in the file, or with --thumbprint or --account."
        raise errors.BadOption(f"{where} names {name} without a thumbprint.", cure)
    if not THUMBPRINT.fullmatch(thumbprint):
        raise errors.BadOption(f"{where} has {thumbprint!r}, which is no account's thumbprint.", FROM_CERTBOT)
