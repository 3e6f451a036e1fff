"""Who may import what: core is pure, kernel touches the machine, only the authenticator and errors know Certbot."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "certbot_standalone_nfq"
CORE_STANDARD_LIBRARY = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "ipaddress",
    "math",
    "re",
    "struct",
    "typing",
}
NOT_STANDARD = {"acme", "certbot", "fnfqueue", "josepy", "scapy"}
MAY_IMPORT = {
    "core": {"certbot_standalone_nfq.core", "scapy"},
    "kernel": {
        "certbot_standalone_nfq.core",
        "certbot_standalone_nfq.errors",
        "certbot_standalone_nfq.kernel",
        "fnfqueue",
    },
    "kernel/dns.py": {"scapy"},
    "arguments.py": set(),
    "doctor": {
        "certbot_standalone_nfq.arguments",
        "certbot_standalone_nfq.doctor",
        "certbot_standalone_nfq.errors",
        "certbot_standalone_nfq.interception",
        "certbot_standalone_nfq.kernel",
    },
    "watch.py": {
        "certbot_standalone_nfq.arguments",
        "certbot_standalone_nfq.core",
        "certbot_standalone_nfq.diagnosis",
        "certbot_standalone_nfq.errors",
        "certbot_standalone_nfq.kernel",
        "certbot_standalone_nfq.recording",
    },
    "command.py": {"certbot_standalone_nfq.doctor", "certbot_standalone_nfq.watch"},
    "__main__.py": {"certbot_standalone_nfq.command"},
    "interception.py": {"certbot_standalone_nfq.core", "certbot_standalone_nfq.kernel"},
    "standin.py": {"acme", "certbot_standalone_nfq.errors", "certbot_standalone_nfq.kernel"},
    "observation.py": {"certbot_standalone_nfq.evidence", "certbot_standalone_nfq.kernel"},
    "evidence.py": {"certbot_standalone_nfq.core"},
    "problem.py": set(),
    "diagnosis.py": {
        "certbot_standalone_nfq.core",
        "certbot_standalone_nfq.evidence",
        "certbot_standalone_nfq.problem",
    },
    "hints.py": {"certbot_standalone_nfq.diagnosis"},
    "recording.py": {"scapy"},
    "witness.py": {
        "certbot_standalone_nfq.core",
        "certbot_standalone_nfq.diagnosis",
        "certbot_standalone_nfq.errors",
        "certbot_standalone_nfq.evidence",
        "certbot_standalone_nfq.hints",
        "certbot_standalone_nfq.kernel",
        "certbot_standalone_nfq.observation",
        "certbot_standalone_nfq.problem",
        "certbot_standalone_nfq.recording",
    },
    "errors.py": {"certbot"},
    "authenticator.py": {
        "acme",
        "certbot",
        "certbot_standalone_nfq",
        "certbot_standalone_nfq.interception",
        "certbot_standalone_nfq.kernel",
        "certbot_standalone_nfq.problem",
        "certbot_standalone_nfq.standin",
        "certbot_standalone_nfq.witness",
    },
    "__init__.py": set(),
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imports(source: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            if module in ("certbot_standalone_nfq", "certbot_standalone_nfq.kernel", "certbot_standalone_nfq.core"):
                found |= {f"{module}.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_place_allows(source: Path) -> None:
    path = source.relative_to(PACKAGE)
    place = path.parts[0]
    allowed = MAY_IMPORT[str(path) if str(path) in MAY_IMPORT else place]
    for module in imports(source):
        top = module.split(".")[0]
        if top == PACKAGE.name or top in NOT_STANDARD:
            assert any(module == prefix or module.startswith(f"{prefix}.") for prefix in allowed), module
        elif place == "core":
            assert top in CORE_STANDARD_LIBRARY, module


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_a_module_fits_on_a_few_screens(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= 300


@pytest.mark.parametrize("entry", ["prepare", "import"])
def test_neither_loading_nor_preparing_the_plugin_loads_scapy(entry: str) -> None:
    program = "import sys; import certbot_standalone_nfq.authenticator;"
    if entry == "prepare":
        program += "from certbot_standalone_nfq.kernel import claim, firewall, support;"
    program += "sys.exit('scapy' in sys.modules or 'fnfqueue' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
