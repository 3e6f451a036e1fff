"""The way to capture by eBPF, as the choice sees it."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Sequence
from typing import ClassVar

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf import memory, refusals, system
from certbot_standalone_nfq.capture.ebpf.capture import EbpfCapture
from certbot_standalone_nfq.capture.ebpf.selection import CannotCompile, alternatives_of
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.settings import AUTO, Settings

NAME = "ebpf"


class EbpfBackend:
    """Programs at the interfaces, ahead of netfilter."""

    name: ClassVar[str] = NAME
    kind: ClassVar[str] = NAME
    burden: ClassVar[int] = 0
    tracks: ClassVar[bool] = False

    def __init__(self, *, lasting: bool = False) -> None:
        """Prepare to capture for one validation, or for days."""
        self._lasting = lasting

    def unsupported(self, selectors: Sequence[Selector] = ()) -> errors.Error | None:
        """Return why it cannot work here, found out by a map that is closed at once, or None."""
        try:
            system.Map(system.MapType.RINGBUF, 0, 0, resource.getpagesize()).close()
            if selectors:
                alternatives_of(selectors)
        except OSError as error:
            return refusals.explained(error)
        except CannotCompile as error:
            return refusals.not_selectable(error)
        return None

    def open(self, selectors: Sequence[Selector], held: contextlib.ExitStack) -> EbpfCapture:
        """Capture what the selectors select. Raises one of the package's errors, with nothing left; see Backend."""
        try:
            return self._open(selectors, held)
        except OSError as error:
            raise refusals.explained(error) from error
        except CannotCompile as error:
            raise refusals.not_selectable(error) from error

    def _open(self, selectors: Sequence[Selector], held: contextlib.ExitStack) -> EbpfCapture:
        try:
            return EbpfCapture(selectors, held, lasting=self._lasting)
        except PermissionError:
            if not privileges.may_use_ebpf() or not memory.may_lock_more():
                raise
        return EbpfCapture(selectors, held, lasting=self._lasting)


def backends(settings: Settings, _: Snapshot) -> list[EbpfBackend]:
    """Return the one backend there is, unless the user asks for something else."""
    return [] if settings.capture == AUTO and settings.asks_for_a_queue else [EbpfBackend(lasting=settings.lasting)]
