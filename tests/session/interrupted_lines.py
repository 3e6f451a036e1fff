"""A program that is interrupted at each line that is run between the adding of rules and their keeping.

It says what was left behind. Moments by the clock, as in `interrupted`, seldom meet these: they take microseconds.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from types import FrameType
from typing import Any

from certbot_standalone_nfq.capture.nfqueue.rule_writer import Rules
from certbot_standalone_nfq.session.keeper import Keeper
from lab.hosts import Host
from tests.session.interrupted import CHALLENGES, authenticator, held, undisturbed

ENOUGH = 20
_OURS = "/certbot_standalone_nfq/"
"""In the folders of files whose lines count: an exception within a lock of Python's leaves it locked."""
_add = Rules.install


def interrupted_at(number: int) -> bool:
    """Perform, interrupted at the n-th line after the rules are there, and clean up; return whether there was such."""
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event != "call" and _OURS in frame.f_code.co_filename and next(lines) == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    def add_and_trace(*arguments: Any, **options: Any) -> None:
        _add(*arguments, **options)
        sys.settrace(trace)
        frame = inspect.currentframe()
        while frame:
            frame.f_trace = trace
            frame = frame.f_back

    performing, interrupted = authenticator(), False
    Rules.install = add_and_trace  # type: ignore[method-assign]
    Keeper.start = untraced(Keeper.start)  # type: ignore[method-assign]
    try:
        performing.perform(CHALLENGES)
    except KeyboardInterrupt:
        interrupted = True
    sys.settrace(None)
    performing.cleanup(CHALLENGES)
    return interrupted


def untraced(start: Any) -> Any:
    """Return a method that ends the tracing: from there on, everything is held."""

    def begin(*arguments: Any) -> None:
        sys.settrace(None)
        start(*arguments)

    return begin


def main(host: Host) -> None:
    undisturbed()
    before = held(host)
    for number in itertools.count(1):
        if not interrupted_at(number):
            break
        if held(host) != before:
            sys.stdout.write(f"left at line {number}: {held(host)}\n")
    sys.stdout.write("done\n" if number > ENOUGH else f"only {number} lines\n")


if __name__ == "__main__":
    main(Host(sys.argv[1]))
