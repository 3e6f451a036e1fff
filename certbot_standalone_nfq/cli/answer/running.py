"""The service while it runs: signals, the service manager, and the end."""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host.service_manager import ServiceManager
from certbot_standalone_nfq.session.answer_log import AnswerLog
from certbot_standalone_nfq.session.answerer import Answerer
from certbot_standalone_nfq.settings import HTTP_01, Settings

logger = logging.getLogger(__name__)

_END = (signal.SIGINT, signal.SIGTERM)
_FAILED, _LEFT_OUT = 0, 255
"""What else wakes the main thread, beside the numbers of signals."""
_HANGS_AFTER = 1.0
"""Seconds that a decision on packets may take before there is no ping."""

Wanted = Callable[[], Mapping[str, str]]
"""Returns the names to answer for with their thumbprints, read anew. Raises one of the package's errors."""


class Running:
    """One run of the service."""

    def __init__(self, settings: Settings, wanted: Wanted, *, listen: bool) -> None:
        self._wanted = wanted
        self._manager = ServiceManager()
        self._log = AnswerLog(lambda: self._wake(_LEFT_OUT))
        self._answerer = Answerer(settings, self._log, lambda: self._wake(_FAILED), listen=listen)
        self._port = settings.ports[HTTP_01]
        self._ping_at: float | None = None
        self._waking: socket.socket

    def run(self) -> int:
        """Answer until a signal ends it, and return the exit status. Raises one of the package's errors."""
        names = self._wanted()
        with _signals() as (woken, self._waking), contextlib.ExitStack() as held:
            held.callback(self._answerer.close)
            held.callback(self._manager.stopping)
            self._answerer.open(names)
            self._say_ready(names)
            self._begin_pings()
            return self._serve(woken)

    def _serve(self, woken: socket.socket) -> int:
        """Wait for what there is to do. There is no other reason to wake up."""
        while True:
            seconds = [each for each in (self._log.seconds_left(), self._seconds_to_ping()) if each is not None]
            events = woken.recv(64) if select.select([woken], [], [], min(seconds, default=None))[0] else b""
            self._log.sum_up()
            self._ping_if_due()
            if _FAILED in events:
                logger.error("Requests can be answered no more.")
                return 1
            if any(number in events for number in _END):
                return 0
            if signal.SIGHUP in events:
                self._reload()

    def _reload(self) -> None:
        """Read the names again. If anything is wrong with them, all stays as it was."""
        self._manager.reloading()
        try:
            names = self._wanted()
            self._answerer.change(names)
        except errors.Error as error:
            logger.error("The names are not read again, and all stays as it was. %s", error)
            self._manager.ready("The last reload failed; see the log")
        else:
            self._say_ready(names)

    def _say_ready(self, names: Mapping[str, str]) -> None:
        status = f"Answering any token for {_listed(list(names))} on port {self._port}"
        logger.info("%s", status)
        self._manager.ready(status)

    def _begin_pings(self) -> None:
        if self._manager.seconds_between_pings:
            self._ping_at = time.monotonic() + self._manager.seconds_between_pings

    def _seconds_to_ping(self) -> float | None:
        return None if self._ping_at is None else max(0.0, self._ping_at - time.monotonic())

    def _ping_if_due(self) -> None:
        if self._ping_at is None or time.monotonic() < self._ping_at:
            return
        self._begin_pings()
        if self._answerer.responds_within(_HANGS_AFTER):
            self._manager.ping()

    def _wake(self, event: int) -> None:
        with contextlib.suppress(OSError):  # so many events wait that it wakes up in any case, or it has ended
            self._waking.send(bytes([event]))


_SHOWN = 5


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more names" if more > 0 else "")


@contextlib.contextmanager
def _signals() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Have signals written to a socket by their numbers, in place of interrupting the program at any point."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    with reading, writing:
        before = {number: signal.signal(number, lambda *_: None) for number in (*_END, signal.SIGHUP)}
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading, writing
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
