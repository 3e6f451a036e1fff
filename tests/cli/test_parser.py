"""What the command line may say."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from certbot_standalone_nfq.cli import arguments
from certbot_standalone_nfq.cli.parser import COMMANDS, Command, parser

pytestmark = pytest.mark.anywhere

ROOT = Path(__file__).parent.parent.parent
FOREIGN = ("acme", "certbot", "cryptography", "dns", "scapy")


@pytest.mark.parametrize("command", ["doctor", "watch"])
@pytest.mark.parametrize(
    "given",
    [
        ["a.example", "b.example"],
        ["-d", "a.example", "-d", "b.example"],
        ["-d", "a.example,b.example"],
        ["--domains", "a.example, b.example,"],
        ["-da.example", "--domain=b.example"],
        ["a.example", "-d", "b.example"],
    ],
)
def test_names_may_be_given_as_certbot_takes_them(command: str, given: list[str]) -> None:
    assert arguments.names(parser().parse_args([command, *given])) == ["a.example", "b.example"]


def test_names_of_one_command_line_are_not_those_of_the_next() -> None:
    parser().parse_args(["doctor", "-d", "a.example"])
    assert arguments.names(parser().parse_args(["doctor", "--ip-address", "192.0.2.1"])) == ["192.0.2.1"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_a_command_is_run_by_a_module_of_its_own(command: Command) -> None:
    assert callable(importlib.import_module(parser().parse_args([command.name]).module).run)


def test_nothing_that_may_be_missing_is_loaded_for_the_parser() -> None:
    script = f"""
import sys
from certbot_standalone_nfq.cli.parser import parser
parser().format_help()
assert not [name for name in sys.modules if name.partition(".")[0] in {FOREIGN}]
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-S", "-c", script], check=True, env=environment)
