"""A few of the kills of scripts/test-kills: each way once in each phase, at random moments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.processes import run
from scripts.kills.campaign import EBPF_BY_STUB, PHASES, Way

pytestmark = pytest.mark.root


def kill(count: int, *options: str) -> str:
    """Kill so many times; return what is printed of it."""
    command = [sys.executable, "-m", "scripts.kills", f"--points={count}", *options]
    printed = run(command, cwd=Path(__file__).parent.parent, timeout=600)
    assert f"{count} kills; something was left after 0\n" in printed
    assert "of which 0 failed" in printed
    return printed


def test_nothing_is_left_and_no_bystander_is_hurt_by_whatever_is_killed() -> None:
    kill(len(PHASES) * len(Way))


def test_filters_that_a_killed_process_leaves_do_nothing_and_the_next_run_removes_them() -> None:
    assert "did nothing and the next run removed: 0\n" not in kill(len(Way) * 2, f"--capture={EBPF_BY_STUB}")
