"""Certbot ends by an exception that a signal's handler raises, wherever the main thread is: in a solver, too."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.protocols import UNDECIDED
from lab.http import request
from lab.interceptor import KEY_AUTHORIZATION, TOKEN

SIMILAR = TOKEN[:20] + "x"


def is_pending(solver: Http01Solver, token: str) -> bool:
    return solver.recognise(request(token)) not in (None, UNDECIDED)


@contextlib.contextmanager
def interrupted_at_line(number: int) -> Iterator[None]:
    """Raise an exception before the so many-th line that runs in the solver's file."""
    lines = itertools.count()

    def trace(frame: object, event: str, _argument: object) -> object:
        name = getattr(frame, "f_code").co_filename  # noqa: B009
        if event == "line" and name.endswith("solver.py") and next(lines) == number:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("method", ["add", "remove"])
def test_wherever_a_change_is_interrupted_it_can_be_undone_and_no_other_challenge_is_affected(method: str) -> None:
    for number in itertools.count():
        solver = Http01Solver()
        solver.add(SIMILAR, KEY_AUTHORIZATION)
        if method == "remove":
            solver.add(TOKEN, KEY_AUTHORIZATION)
        try:
            with interrupted_at_line(number):
                solver.add(TOKEN, KEY_AUTHORIZATION) if method == "add" else solver.remove(TOKEN)
            break
        except KeyboardInterrupt:
            solver.remove(TOKEN)
        assert not is_pending(solver, TOKEN)
        assert is_pending(solver, SIMILAR)
        assert solver.recognise(request(SIMILAR)[:33]) is UNDECIDED
    assert number >= 4
