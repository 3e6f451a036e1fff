"""A small form of the day's work of scripts/test-answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.interceptor import BY_RULES, EBPF
from lab.processes import run

pytestmark = [pytest.mark.root, pytest.mark.heavy]


def test_requests_are_answered_and_nothing_grows_or_is_left() -> None:
    printed = run([sys.executable, "-m", "scripts.answers", "--requests", "400"], cwd=Path(__file__).parent.parent)
    rows = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines()[2:]]
    assert [row[1] for row in rows] == [BY_RULES, *EBPF]
    assert all(int(row[2]) >= 400 and row[3] == row[8] == "0" for row in rows)
