"""What import-linter's contracts in pyproject.toml do not say: the size of files, and what Certbot's start loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "certbot_standalone_nfq"
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_a_module_fits_on_a_few_screens(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= 300


PREPARE = """
from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.session import requirements
from certbot_standalone_nfq.settings import Settings
try:
    choice.require_any(Settings())
except errors.Error:
    pass
"""


@pytest.mark.parametrize("prepare", ["", PREPARE], ids=["import", "prepare"])
def test_neither_loading_nor_preparing_the_plugin_loads_scapy_or_dnspython(prepare: str) -> None:
    program = f"import sys, certbot_standalone_nfq.authenticator\n{prepare}"
    program += "sys.exit(not {'dns', 'fnfqueue', 'scapy'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
