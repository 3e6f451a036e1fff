"""The choice of a way to capture: the first that works, in an order that the situation may change."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.protocols import Backend, Capture, port_of
from certbot_standalone_nfq.capture.situation import objections
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.settings import AUTO, CAPTURES, Settings

logger = logging.getLogger(__name__)


_MISSING = (errors.KernelSupportMissing, errors.MarksInUse)
"""What a backend may be able to do without if it selects packets in another way."""
_ABSENT = (errors.NoFirewallTool, errors.CaptureUnavailable)
"""A backend that is not there."""
_HINDRANCES = (*_MISSING, *_ABSENT, errors.FirewallRefused, errors.FirewallLockDenied)
"""What may hinder one backend and not another."""

_DENIED = (errors.FirewallRefused, errors.FirewallLockDenied)
"""What a program without capabilities comes to."""


class _Refusal(NamedTuple):
    """A backend that does not work here, and why."""

    backend: Backend
    error: errors.Error


def require_any(settings: Settings) -> None:
    """Raise errors.NoFirewallTool if no backend can work here, found out without changing anything."""
    refusals: list[_Refusal] = []
    for backend in _candidates(settings, Snapshot(), against_tracking=False):
        error = backend.unsupported()
        if error is None:
            return
        refusals.append(_Refusal(backend, error))
    raise _most_telling(refusals, settings)


def open_capture(
    settings: Settings, selectors: Sequence[Selector], snapshot: Snapshot, held: contextlib.ExitStack
) -> Capture[Any]:
    """Capture what the selectors select, on one port, by the first backend that works beside other programs' rules.

    `held` closes the capture, whatever this is interrupted by. Raises one of the package's errors, with nothing left.
    """
    privileges.require_capabilities()
    refusals: list[_Refusal] = []
    port = port_of(selectors)
    objection = next(objections(port, snapshot), "")
    for backend in _candidates(settings, snapshot, against_tracking=bool(objection)):
        if not _may_work(backend, refusals):
            continue
        attempt = contextlib.ExitStack()
        held.push(attempt)
        try:
            capture = backend.open(selectors, attempt)
        except _HINDRANCES as error:
            refusals.append(_Refusal(backend, error))
            continue
        _report(backend, port, refusals, settings, objection)
        return capture
    if privileges.programs_lack_capabilities() and any(isinstance(each.error, _DENIED) for each in refusals):
        raise errors.not_inherited()
    raise _most_telling([each for each in refusals if each.backend.burden == refusals[-1].backend.burden], settings)


def backends(settings: Settings, snapshot: Snapshot) -> list[Backend]:
    """Return all backends there are, in the order of their names in the settings."""
    folders = dict.fromkeys(name.partition("-")[0] for name in CAPTURES)
    modules = [importlib.import_module(f"{__package__}.{folder}.backend") for folder in folders]
    return [backend for module in modules for backend in module.backends(settings, snapshot)]


def expected(settings: Settings, selectors: Sequence[Selector], snapshot: Snapshot) -> tuple[str, str]:
    """Return the name of the backend that is likely to be taken, and why, found out without changing anything.

    The name is empty if there is none.
    """
    objection = next(objections(port_of(selectors), snapshot), "")
    for backend in _candidates(settings, snapshot, against_tracking=bool(objection)):
        if backend.unsupported(selectors) is None:
            return backend.name, _reason(backend, settings, objection)
    return "", ""


def _candidates(settings: Settings, snapshot: Snapshot, *, against_tracking: bool) -> list[Backend]:
    """Return the backends to try in turn."""
    found = backends(settings, snapshot)
    chosen = [backend for backend in found if settings.capture in (AUTO, backend.name)]
    return sorted(chosen, key=lambda backend: (backend.burden, against_tracking and backend.tracks))


def _may_work(backend: Backend, refusals: Sequence[_Refusal]) -> bool:
    """Whether what hindered the backends before it may not hinder this one."""
    equals = [each for each in refusals if each.backend.burden == backend.burden]
    if any(isinstance(each.error, errors.MarksInUse) and each.backend.kind == backend.kind for each in equals):
        return False
    lighter = max((each.backend.burden for each in refusals if each.backend.burden < backend.burden), default=None)
    return lighter is None or any(
        isinstance(each.error, _MISSING) for each in refusals if each.backend.burden == lighter
    )


def _reason(backend: Backend, settings: Settings, objection: str) -> str:
    """Return why a backend is taken, in words that complete 'as ...'."""
    if settings.capture != AUTO:
        return "it was asked for"
    return objection if objection and not backend.tracks else "it is the first that works"


def _report(backend: Backend, port: int, refusals: Sequence[_Refusal], settings: Settings, objection: str) -> None:
    why = _reason(backend, settings, objection)
    others = "".join(f"; not by {refusal.backend.name}: {refusal.error.cause.rstrip('.')}" for refusal in refusals)
    logger.info("Packets to port %d are captured by %s, as %s%s", port, backend.name, why, others)
    lighter = [refusal for refusal in refusals if refusal.backend.burden < backend.burden]
    if lighter:
        first = [refusal for refusal in lighter if refusal.backend.burden == lighter[0].backend.burden]
        logger.warning(
            "Until the validation is over, every packet to port %d goes through Certbot, which slows that port down. "
            "%s",
            port,
            _most_telling(first, settings),
        )


def _most_telling(refusals: Sequence[_Refusal], settings: Settings) -> errors.Error:
    """Return the first error of a backend that is there: the first is the administrator's own choice."""
    told = [error for _, error in refusals if not isinstance(error, _ABSENT)]
    if told:
        return told[0]
    if settings.capture != AUTO:
        return refusals[0].error
    return errors.NoFirewallTool("iptables or nft", "iptables or nftables")
