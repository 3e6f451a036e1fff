"""The ACME accounts that Certbot has on this machine, each by the thumbprint of its key.

Nothing of Certbot's is loaded: its files have their form since its first version, and a thumbprint is a hash of a few
members of the key (RFC 7638).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from certbot_standalone_nfq import errors

FROM_CERTBOT = "Give the 43 characters that 'certbot show_account' prints as Account Thumbprint."
"""The cure for what is no thumbprint."""
_KEY = "private_key.json"
_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
"""Those that a thumbprint is made of (RFC 7638, 3.2; RFC 8037, 2)."""


@dataclass(frozen=True)
class Account:
    """An account at a CA."""

    server: str
    """The CA's directory, without https://."""
    thumbprint: str


def thumbprint(key: str) -> str:
    """Return the thumbprint of a key in JSON (RFC 7517). Raises ValueError if it is none."""
    try:
        found = json.loads(key)
        members = {name: str(found[name]) for name in _MEMBERS[found["kty"]]}
    except (TypeError, LookupError) as error:
        raise ValueError("not a key in JSON") from error
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def accounts(config_dir: Path, server: str = "") -> list[Account]:
    """Return the accounts at all CAs, or at one, given its URL; those whose key cannot be read are left out.

    Certbot may have the folder of one server's accounts as a link to another's: then it is one account.
    """
    found = {account.thumbprint: account for account in _accounts(config_dir / "accounts")}
    wanted = _without_scheme(server)
    return [account for account in found.values() if wanted in ("", account.server)]


def _accounts(folder: Path) -> Iterator[Account]:
    for path in sorted(folder.rglob(_KEY)):
        with contextlib.suppress(OSError, ValueError):
            server = path.parent.parent.relative_to(folder)
            yield Account(str(server), thumbprint(path.read_text(encoding="utf-8")))


def only(config_dir: Path, server: str = "") -> Account:
    """Return the one account there is. Raises one of the package's errors if there is none, or several."""
    found = accounts(config_dir, server)
    if len(found) == 1:
        return found[0]
    where = f"below {config_dir}" + (f" for {_without_scheme(server)}" if server else "")
    if not found:
        raise errors.BadOption(
            f"Certbot has no account {where} that this process can read.",
            "Give Certbot's folder with --config-dir, or a thumbprint with --thumbprint.",
        )
    listed = ", ".join(f"{account.thumbprint} at {account.server}" for account in found)
    raise errors.BadOption(
        f"Certbot has {len(found)} accounts {where}: {listed}.",
        "Choose one with --server, or give its thumbprint with --thumbprint.",
    )


def _without_scheme(url: str) -> str:
    """Return a directory as the folder of its accounts is named."""
    found = urlsplit(url)
    return f"{found.netloc}{found.path}".strip("/") if found.scheme else url.strip("/")
