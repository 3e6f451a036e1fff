"""Each program of scripts/ starts, and says how it is used; what they do takes too long for here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "scripts"
PROGRAMS = sorted(path.name for path in FOLDER.iterdir() if path.is_file() and os.access(path, os.X_OK))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_how_it_is_used(name: str) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    asked = subprocess.run(
        [f"./{name}", "--help"], cwd=FOLDER, env=environment, check=False, capture_output=True, text=True
    )
    assert (asked.returncode, asked.stderr) == (0, "")
    assert f"scripts/{name}" in asked.stdout
