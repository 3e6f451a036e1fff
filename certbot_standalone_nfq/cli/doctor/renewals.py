"""Certbot's certificates: whether they are renewed in time, and what their next renewal will need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, unchecked, warned
from certbot_standalone_nfq.cli.doctor.need import Need
from certbot_standalone_nfq.host.command import find_program
from certbot_standalone_nfq.host.lineages import Lineage, directory_hooks, lineages
from certbot_standalone_nfq.settings import AUTO, DEFAULT_PORTS, DNS_01, HTTP_01

CHECK = "renewal"
_PLUGIN = "standalone-nfq"
_ALIASES = {"http": HTTP_01, "dns": DNS_01}
"""What Certbot takes for types of challenge, too."""
_AFTERWARDS = ("renew_hook", "post_hook")
_HOOKS = ("pre_hook", *_AFTERWARDS)
_PORT_OPTIONS = {typ: f"standalone_nfq_{typ.replace('-', '_')}_port" for typ in DEFAULT_PORTS} | {
    HTTP_01: "http01_port"
}
_SHOWN = 3
"""Names in a line."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Renewal:
    """A certificate, and what its renewal will do and need."""

    lineage: Lineage
    time: datetime
    """When it was looked at."""
    authenticator: str = ""
    """Certbot's name for what validates; empty if that is not known."""
    installer: str = ""
    """Certbot's name for what installs the certificate, and reloads its server; empty if there is none."""
    automatic: bool = True
    """Whether Certbot renews it by itself."""
    hooks: tuple[str, ...] = ()
    """What is run after it."""
    missing_program: str = ""
    """A hook's program that Certbot will not find, and so refuse to renew."""
    needs: tuple[Need, ...] = ()
    """What this plugin will need; nothing if another authenticator validates."""

    @property
    def names(self) -> tuple[str, ...]:
        """Whom the certificate is for."""
        return self.lineage.certificate.names if self.lineage.certificate else ()

    @property
    def left(self) -> timedelta | None:
        """For how long the certificate is valid, below 0 if it has expired; None if that is not known."""
        return self.lineage.certificate.end - self.time if self.lineage.certificate else None

    @property
    def overdue(self) -> bool:
        """Whether Certbot should have renewed it."""
        return self.lineage.overdue_at is not None and self.time >= self.lineage.overdue_at

    def is_about(self, names: list[str]) -> bool:
        """Whether its own name, or one that it is for, is among these."""
        return not {self.lineage.name, *self.names}.isdisjoint(names)


def renewals(folder: Path, time: datetime) -> list[Renewal]:
    """Return what Certbot will renew, given the folder of its files and the time. Raises OSError and ImportError."""
    everywhere = tuple(map(str, directory_hooks(folder)))
    return [_renewal(lineage, time, everywhere) for lineage in lineages(folder)]


def _renewal(lineage: Lineage, time: datetime, everywhere: tuple[str, ...]) -> Renewal:
    commands = {hook: _text(lineage, hook) for hook in _HOOKS}
    programs = [command.split()[0] for command in commands.values() if command.split()]
    authenticator = _text(lineage, "authenticator")
    return Renewal(
        lineage,
        time,
        authenticator,
        _text(lineage, "installer"),
        _text(lineage, "autorenew").lower() != "false",
        (*(commands[hook] for hook in _AFTERWARDS if commands[hook]), *everywhere),
        next((program for program in programs if not find_program(program)), ""),
        tuple(_needs(lineage)) if authenticator == _PLUGIN else (),
    )


def _needs(lineage: Lineage) -> Iterator[Need]:
    names = lineage.certificate.names if lineage.certificate else ()
    types = {name: _type_for(name, lineage) for name in names}
    for typ in dict.fromkeys(types.values()):
        port = int(_text(lineage, _PORT_OPTIONS[typ]) or DEFAULT_PORTS[typ])
        capture = _text(lineage, "standalone_nfq_capture") or AUTO
        yield Need(port, typ, tuple(name for name in names if types[name] == typ), capture)


def _type_for(name: str, lineage: Lineage) -> str:
    """Return the type of challenge for a name: a wildcard's only one, or the first that is preferred and ours."""
    if name.startswith("*."):
        return DNS_01
    preferred = lineage.options.get("pref_challs", [])
    listed = preferred.split(",") if isinstance(preferred, str) else preferred
    types = [_ALIASES.get(each.strip(), each.strip()) for each in listed]
    return next((typ for typ in types if typ in DEFAULT_PORTS), HTTP_01)


def _text(lineage: Lineage, option: str) -> str:
    value = lineage.options.get(option)
    return "" if value in (None, "None") else str(value)


def merged(needs: Iterable[Need]) -> list[Need]:
    """Return needs with those on one port as one."""
    names: dict[Need, list[str]] = {}
    for need in needs:
        names.setdefault(dataclasses.replace(need, names=()), []).extend(need.names)
    return [dataclasses.replace(need, names=tuple(dict.fromkeys(found))) for need, found in names.items()]


def unreadable(folder: Path, error: Exception) -> Finding:
    """Return the finding that Certbot's certificates cannot be listed."""
    if isinstance(error, ImportError):
        return failed(
            CHECK, f"configobj, which reads Certbot's files, cannot be loaded: {error}.", "Install configobj."
        )
    if isinstance(error, PermissionError):
        return unchecked(CHECK, "This user may not read Certbot's files.")
    words = error.strerror if isinstance(error, OSError) else str(error)
    return warned(CHECK, f"There are no files of Certbot's in {folder}: {words}.", "Give its folder by --config-dir.")


def nothing(folder: Path, names: list[str]) -> Finding:
    """Return the finding that no certificate is there, or none with one of some names."""
    seen = f"Certbot has no certificate{f' for {_listed(names)}' if names else ''} in {folder}."
    return warned(CHECK, seen, "Get one, or give Certbot's folder by --config-dir.")


def findings(renewal: Renewal) -> Iterator[Finding]:
    """Yield what is found about one of Certbot's certificates."""
    lineage = renewal.lineage
    if lineage.denied:
        yield unchecked(CHECK, "This user may not read Certbot's files.")
        return
    if renewal.left is None:
        yield failed(
            CHECK,
            f"{lineage.name}: Certbot skips it: {lineage.problem}.",
            "Correct that file, restore it from a backup, or delete it and get the certificate anew.",
        )
        return
    yield _state(renewal, renewal.left)
    if renewal.missing_program:
        yield failed(
            CHECK,
            f"{lineage.name}: a hook's program is not found: {renewal.missing_program}.",
            f"Certbot does not renew before it is: install it, or correct {lineage.file}.",
        )
    if not renewal.hooks and not renewal.installer:
        folder = lineage.file.parent.parent / "renewal-hooks" / "deploy"
        yield warned(
            CHECK,
            f"{lineage.name}: there is no deploy hook, so that servers keep the old certificate.",
            f"Put a program that reloads them into {folder}, or use --deploy-hook.",
        )


def _state(renewal: Renewal, left: timedelta) -> Finding:
    seen = f"{renewal.lineage.name}: {'; '.join(_facts(renewal, left))}."
    command = f"'certbot renew --cert-name {renewal.lineage.name}'"
    if left <= timedelta():
        return failed(CHECK, seen, f"Run {command}, and see what runs 'certbot renew' every day.")
    if not renewal.automatic:
        return warned(CHECK, seen, f"Renew it by {command} in time, or remove autorenew from {renewal.lineage.file}.")
    if renewal.overdue:
        return warned(CHECK, seen, f"Certbot should have renewed it. Run {command} to see why it does not.")
    return passed(CHECK, seen)


def _facts(renewal: Renewal, left: timedelta) -> Iterator[str]:
    yield f"valid for {_duration(left)}" if left > timedelta() else f"expired {_duration(-left)} ago"
    ways = ", ".join(f"{need.typ} on port {need.port}" for need in renewal.needs)
    by = f"by {renewal.authenticator}{f' ({ways})' if ways else ''}"
    yield f"renewed {by}" if renewal.automatic else f"not renewed automatically, else {by}"
    yield f"for {_listed(renewal.names)}"
    if renewal.installer:
        yield f"installed by {renewal.installer}"
    if renewal.hooks:
        yield f"then runs {' and '.join(renewal.hooks)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return f"{', '.join(names[:_SHOWN])}{f' and {more} more' if more > 0 else ''}"


def _duration(time: timedelta) -> str:
    """Return a time in words: in hours where days are too coarse."""
    unit, word = (_DAY, "day") if time > 3 * _DAY else (timedelta(hours=1), "hour")
    count = round(time / unit)
    return f"{count} {word}{'s' * (count != 1)}"
