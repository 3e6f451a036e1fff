"""The manual page and the completions: made of the parser as it is, and understood by what reads them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

from certbot_standalone_nfq.cli.parser import COMMANDS, PROGRAM
from lab.shells import typed
from scripts import manual

SHELLS = list(manual.COMPLETIONS)


@functools.lru_cache
def made() -> dict[str, str]:
    return manual.files()


@pytest.mark.parametrize("path", [manual.PAGE, *manual.COMPLETIONS.values()])
def test_each_file_is_what_the_parser_makes_of_it(path: str) -> None:
    assert (manual.FOLDER / path).read_text() == made()[path], "python3 -m scripts.manual"


def test_nothing_else_is_kept_with_them() -> None:
    kept = {str(path.relative_to(manual.FOLDER)) for path in manual.FOLDER.rglob("*") if path.is_file()}
    assert kept == made().keys()


@pytest.mark.root
def test_man_shows_the_page_without_a_warning() -> None:
    page = str(manual.FOLDER / manual.PAGE)
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "80"}
    command = ["man", "--warnings=all", "--local-file", page]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert shown.stderr == ""
    for command_ in COMMANDS:
        assert f"usage: {PROGRAM} {command_.name} {command_.usage}" in shown.stdout
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"):
        assert f"\n{section}\n" in shown.stdout


@pytest.mark.root
def test_the_page_is_found_by_what_it_is_about() -> None:
    found = subprocess.run(["lexgrog", str(manual.FOLDER / manual.PAGE)], check=True, capture_output=True, text=True)
    assert f'"{PROGRAM} - check what ' in found.stdout


@pytest.mark.root
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_completes_commands_options_values_and_files(shell: str, tmp_path: Path) -> None:
    (tmp_path / "a-file.pcap").touch()
    (tmp_path / "a-folder").mkdir()
    expected = {
        "doc": "doctor",
        "--vers": "--version",
        "doctor --stri": "doctor --strict",
        "doctor www.example.com --jso": "doctor www.example.com --json",
        "doctor --challenge tls": "doctor --challenge tls-alpn-01",
        f"doctor --renewals --config-dir {tmp_path}/a-fo": f"doctor --renewals --config-dir {tmp_path}/a-folder/",
        f"watch --pcap {tmp_path}/a-fi": f"watch --pcap {tmp_path}/a-file.pcap",
        "answer --capture iptables-l": "answer --capture iptables-legacy",
    }
    assert typed(shell, manual.FOLDER, PROGRAM, list(expected), tmp_path) == list(expected.values())
