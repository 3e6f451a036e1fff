"""Certbot's certificates, as its own files describe them: how each is renewed, and until when it is valid.

Nothing is changed. Certbot's own reader is not used, as it mends links while it reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from certbot_standalone_nfq import errors

_SHORT_LIVED = timedelta(days=10)
_DAYS = re.compile(r"(\d+)(?: days?)?")
_INI_LINE = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:[=:\s]\s*(.*))?")
_SYNONYMS = {
    "deploy_hook": "renew_hook",
    "http_01_port": "http01_port",
    "preferred_challenges": "pref_challs",
}
"""Names of options, and what renewal files call them."""

Options = Mapping[str, Any]
"""Values are texts, or lists of texts."""


@dataclass(frozen=True)
class Certificate:
    """For whom a certificate is, and when it is valid."""

    names: tuple[str, ...]
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Lineage:
    """A certificate and its successors, by the name that Certbot gives them."""

    name: str
    file: Path
    """The renewal file."""
    options: Options = field(default_factory=dict)
    """What it is renewed with, by the names in renewal files."""
    certificate: Certificate | None = None
    interval: str = ""
    """How long before its end Certbot is to renew it, if the administrator has said so."""
    problem: str = ""
    """Why Certbot cannot renew it, in words; empty if it can be read."""
    denied: bool = False
    """Whether the problem is only that this user may not read its files."""

    @property
    def overdue_at(self) -> datetime | None:
        """When a quarter of the time that Certbot has for renewing it is gone; None if that is not known."""
        if not self.certificate:
            return None
        begin, end = self.certificate.begin, self.certificate.end
        if self.interval:
            days = _DAYS.fullmatch(self.interval.strip())
            return end - timedelta(days=int(days.group(1))) * 3 / 4 if days else None
        # Since Certbot 4.1; before, it was 30 days, which is the same for 90.
        lifetime = end - begin
        return end - lifetime / (2 if lifetime < _SHORT_LIVED else 3) * 3 / 4


def lineages(folder: Path) -> Iterator[Lineage]:
    """Yield Certbot's certificates, in order. Raises OSError if the folder cannot be read, and ImportError."""
    files = sorted(path for path in (folder / "renewal").iterdir() if path.suffix == ".conf")
    everywhere = _options_everywhere(folder / "cli.ini")
    for file in files:
        yield _lineage(file, everywhere)


def directory_hooks(folder: Path) -> list[Path]:
    """Return the programs that Certbot runs after any renewal."""
    found = (path for kind in ("deploy", "post") for path in sorted((folder / "renewal-hooks" / kind).glob("*")))
    return [path for path in found if path.is_file() and os.access(path, os.X_OK) and not path.name.endswith("~")]


def _lineage(file: Path, everywhere: Options) -> Lineage:
    try:
        return _read(file, everywhere)
    except ImportError:
        raise
    except Exception as error:  # configobj, cryptography and what they call have many
        errors.raise_interruption(error)
        return Lineage(file.stem, file, problem=_words(error, file), denied=isinstance(error, PermissionError))


def _words(error: Exception, file: Path) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{file}: {' '.join(str(error).split()).rstrip('.') or type(error).__name__}"


def _read(file: Path, everywhere: Options) -> Lineage:
    """Read a renewal file and its certificate, and ask for what Certbot asks for."""
    from configobj import ConfigObj

    content = ConfigObj(str(file), encoding="utf-8", default_encoding="utf-8", file_error=True)
    lacking = [name for name in ("cert", "privkey", "chain", "fullchain") if name not in content.scalars]
    lacking += [name for name in ("renewalparams",) if name not in content.sections]
    if lacking:
        return Lineage(file.stem, file, problem=f"{file} lacks {', '.join(lacking)}")
    own = content["renewalparams"].dict()
    options = {**{_SYNONYMS.get(name, name): own[name] for name in own}, **everywhere}
    if "authenticator" not in options:
        return Lineage(file.stem, file, problem=f"{file} names no authenticator")
    wrong = next((name for name in options if name.endswith("_port") and not _is_number(options[name])), "")
    if wrong:
        return Lineage(file.stem, file, problem=f"{file}: {wrong} is no number: {options[wrong]}")
    certificate = _certificate(Path(content["cert"]))
    return Lineage(file.stem, file, options, certificate, content.get("renew_before_expiry", ""))


def _is_number(text: Any) -> bool:
    return str(text).isdecimal() or text == "None"


def _certificate(path: Path) -> Certificate:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    shown = (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))
    return Certificate(shown, _moment(certificate, "not_valid_before"), _moment(certificate, "not_valid_after"))


def _moment(certificate: Any, name: str) -> datetime:
    moment: datetime | None = getattr(certificate, f"{name}_utc", None)  # since cryptography 42
    return moment or getattr(certificate, name).replace(tzinfo=timezone.utc)


def _options_everywhere(file: Path) -> Options:
    """Return the options that Certbot's configuration file gives to every run, and that win over renewal files."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        option = _INI_LINE.fullmatch(line.rstrip())
        if option:
            name = option.group(1).replace("-", "_")
            found[_SYNONYMS.get(name, name)] = (option.group(2) or "True").strip("'\"")
    return found
