"""The smallest run of scripts/test-fleet: one issuance, and its renewal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.processes import run

pytestmark = [pytest.mark.root, pytest.mark.anywhere]


def test_every_validation_is_answered_by_the_server_it_reaches_and_nobody_notices() -> None:
    printed = run([sys.executable, "-m", "scripts.fleet", "--issuances", "1"], cwd=Path(__file__).parent.parent)
    assert "1 certificates issued and 1 renewed" in printed
    assert printed.endswith("no fault\n")
