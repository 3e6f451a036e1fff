from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys

def note(event, arguments):
    if event in ("socket.__new__", "fcntl.ioctl", "os.mkdir", "subprocess.Popen", "os.posix_spawn"):
        print(event, arguments)
    if event == "open" and (str(arguments[0]).startswith("/proc/net") or set(str(arguments[1])) & set("wax+")):
        print(event, arguments)

sys.dont_write_bytecode = True
import socket, subprocess  # these load others, and scapy is what matters here
sys.addaudithook(note)
"""


def run(program: str, home: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    environment["HOME"] = str(home)
    command = [sys.executable, "-W", "ignore", "-c", program]
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return finished.stdout


@pytest.mark.parametrize("module", ["wire.tcp", "session.pcap", "session.session", "cli.watch"])
def test_scapy_reads_nothing_of_the_network_and_writes_nothing(module: str, tmp_path: Path) -> None:
    noted = run(f"{PROGRAM}import certbot_standalone_nfq.{module}, scapy.layers.inet6", tmp_path)
    assert not noted
    assert not list(tmp_path.rglob("*"))


def test_the_rest_of_scapy_can_be_loaded_afterwards(tmp_path: Path) -> None:
    program = "import certbot_standalone_nfq.wire.layers, scapy.all; print(scapy.all.conf.route is not None)"
    assert run(program, tmp_path) == "True\n"
