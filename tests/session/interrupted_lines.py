"""A program that is interrupted at each line that is run between two steps of opening.

It says what was left behind. Moments by the clock, as in `interrupted`, seldom meet these: they take microseconds.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import sys
from types import FrameType
from typing import Any

from lab.hosts import Host
from tests.session.interrupted import CHALLENGES, authenticator, held, undisturbed

PACKAGE = "certbot_standalone_nfq"
SPANS = {
    "from the rules on": ("netlink", "capture.nfqueue.rule_writer.Rules.install", "session.keeper.Keeper.start"),
    "from the queue on": (
        "fnfqueue",
        "capture.nfqueue.fnfqueue_client.FnfqueueQueue._open",
        "capture.nfqueue.watchdog.Watchdog.__init__",
    ),
}
"""Each with the queue's client, the step behind which the lines begin, and the one before which they end."""
ENOUGH = 10


class Interruption:
    """Raises KeyboardInterrupt at the n-th line of the package's that is run in a span.

    Lines of Python's own do not count: an exception within one of its locks leaves that locked.
    """

    def __init__(self, first: str, last: str) -> None:
        self._left = 0
        self.came = False
        replace(first, self._begin_after)
        replace(last, self._end_before)

    def arm(self, number: int) -> None:
        self._left, self.came = number, False

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        self._left -= event != "call" and f"/{PACKAGE}/" in frame.f_code.co_filename
        if not self._left:
            sys.settrace(None)
            self.came = True
            raise KeyboardInterrupt
        return self._trace

    def _begin_after(self, step: Any, *arguments: Any, **options: Any) -> Any:
        step(*arguments, **options)
        sys.settrace(self._trace)
        frame = inspect.currentframe()
        while frame:
            frame.f_trace = self._trace
            frame = frame.f_back

    def _end_before(self, step: Any, *arguments: Any, **options: Any) -> Any:
        sys.settrace(None)
        return step(*arguments, **options)


def replace(name: str, by: Any) -> None:
    """Have a method of the package's go through another, which gets it as its first argument."""
    module, owner, method = f"{PACKAGE}.{name}".rsplit(".", 2)
    kind = getattr(importlib.import_module(module), owner)
    step = getattr(kind, method)
    setattr(kind, method, lambda *arguments, **options: by(step, *arguments, **options))


def main(host: Host, span: str) -> None:
    client, first, last = SPANS[span]
    undisturbed(client)
    before, interruption = held(host), Interruption(first, last)
    for number in itertools.count(1):
        performing = authenticator(client)
        interruption.arm(number)
        with contextlib.suppress(KeyboardInterrupt):
            performing.perform(CHALLENGES)
        performing.cleanup(CHALLENGES)
        if not interruption.came:
            break
        if held(host) != before:
            sys.stdout.write(f"left at line {number}: {held(host)}\n")
    sys.stdout.write("done\n" if number > ENOUGH else f"only {number} lines\n")


if __name__ == "__main__":
    main(Host(sys.argv[1]), sys.argv[2])
