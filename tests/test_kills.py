"""A few of the kills of scripts/test-kills: each way once in each phase, at random moments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.processes import run
from scripts.kills.campaign import PHASES, Way

pytestmark = pytest.mark.root


def test_nothing_is_left_and_no_bystander_is_hurt_by_whatever_is_killed() -> None:
    count = len(PHASES) * len(Way)
    printed = run([sys.executable, "-m", "scripts.kills", "--points", str(count)], cwd=Path(__file__).parent.parent)
    assert f"{count} kills; something was left after 0\n" in printed
    assert "of which 0 failed" in printed
