"""The program where Certbot cannot be imported, nor what comes with it: for users of other ACME clients."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lab.answerer import THUMBPRINT
from lab.hosts import Host
from lab.http import ask, body, request
from lab.interceptor import TOKEN
from lab.processes import end

PLUGIN = "certbot-standalone-nfq"
PACKAGES = ("certbot_standalone_nfq", "cryptography", "dns", "scapy")
MODULE = "_cffi_backend"
"""A file that cryptography needs."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the package, its metadata and what it depends on, but Certbot and what comes with that."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        assert found
        assert found.submodule_search_locations
        (tmp_path / package).symlink_to(found.submodule_search_locations[0])
    module = importlib.util.find_spec(MODULE)
    assert module
    assert module.origin
    (tmp_path / Path(module.origin).name).symlink_to(module.origin)
    metadata = tmp_path / "certbot_standalone_nfq.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: {importlib.metadata.version(PLUGIN)}\n")
    return tmp_path


def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site)}


def command(*arguments: str) -> list[str]:
    """Return the command that runs the program without what is installed for this Python."""
    return [sys.executable, "-S", "-m", "certbot_standalone_nfq", *arguments]


def run(site: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(site), cwd=site, timeout=60
    )


@pytest.mark.parametrize("package", ["certbot", "acme", "josepy"])
def test_nothing_of_certbots_is_there(site: Path, package: str) -> None:
    finished = run(site, [sys.executable, "-S", "-c", f"import {package}"])
    assert f"No module named '{package}'" in finished.stderr


def test_the_versions_of_all_that_matters_are_shown(site: Path) -> None:
    finished = run(site, command("--version"))
    assert finished.returncode == 0
    assert finished.stdout.splitlines() == [
        f"{PLUGIN} {importlib.metadata.version(PLUGIN)}",
        "Certbot not found",
        "scapy not found",
        f"Python {platform.python_version()}",
        f"Linux {platform.release()}",
    ]


def test_with_certbot_its_version_is_shown_too() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "certbot_standalone_nfq", "--version"], check=True, capture_output=True, text=True
    )
    assert f"Certbot {importlib.metadata.version('certbot')}" in finished.stdout.splitlines()
    assert f"scapy {importlib.metadata.version('scapy')}" in finished.stdout.splitlines()


def test_the_doctor_examines_everything(site: Path, lonely_host: Host) -> None:
    finished = run(site, lonely_host.command(*command("doctor", "localhost")))
    assert finished.stderr == ""
    assert "pass  self-test: IPv4: a challenge was answered" in finished.stdout
    assert "Unexpected" not in finished.stdout
    assert finished.returncode == 0


def test_the_watch_shows_requests_and_writes_them_to_a_file(site: Path, pair: tuple[Host, Host]) -> None:
    client, server = pair
    file = site / "validation.pcap"
    watch = subprocess.Popen(
        server.command(*command("watch", "--pcap", str(file))),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(site),
        cwd=site,
    )
    try:
        assert watch.stdout
        assert watch.stdout.readline().startswith("Looking at TCP port 80")
        with pytest.raises(ConnectionRefusedError):
            ask(client, server.ipv4, request("token"))
    finally:
        end(watch)
    assert file.stat().st_size > 24 + 40


def test_any_token_is_answered(site: Path, pair: tuple[Host, Host]) -> None:
    client, server = pair
    arguments = ("-d", "example.com", "--thumbprint", THUMBPRINT, "--listen")
    service = subprocess.Popen(
        server.command(*command("answer", *arguments)),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(site),
        cwd=site,
    )
    try:
        assert service.stderr
        assert any("Answering any token for example.com" in line for line in service.stderr)
        assert body(ask(client, server.ipv4)) == f"{TOKEN}.{THUMBPRINT}"
    finally:
        end(service)


def test_without_scapy_it_says_what_to_install(site: Path) -> None:
    (site / "scapy").unlink()
    finished = run(site, command("doctor"))
    assert finished.returncode == 1
    assert finished.stderr.startswith("The standalone-nfq plugin cannot load the Python package scapy: ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("doctor", "--help")])
def test_without_scapy_help_and_versions_are_shown(site: Path, arguments: tuple[str, ...]) -> None:
    (site / "scapy").unlink()
    finished = run(site, command(*arguments))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert PLUGIN in finished.stdout
