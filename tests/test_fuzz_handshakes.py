"""A few of the inputs of scripts/fuzz-handshakes."""

from __future__ import annotations

import sys
from pathlib import Path

from lab.processes import run


def test_no_damaged_handshake_troubles_what_reads_and_answers_them() -> None:
    command = [sys.executable, "-m", "scripts.fuzz_handshakes", "--inputs", "2000"]
    printed = run(command, cwd=Path(__file__).parent.parent)
    assert "2,000 inputs" in printed
    for outcome in ("malformed", "TlsConversation", "Undecided", "answered", "not answered"):
        assert f"  {outcome}\n" in printed
