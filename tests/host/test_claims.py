from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from certbot_standalone_nfq.host.claims import Claim, Claimed, is_claimed
from lab.hosts import Host

TEST = f"test of process {os.getpid()}"
CLAIMS = """
import sys
from certbot_standalone_nfq.host.claims import Claim
held = Claim(*sys.argv[1:])
print(flush=True)
input()
"""
TAKES_A_NAME = """
import socket, sys
held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
held.bind(chr(0) + sys.argv[1])
print(flush=True)
input()
"""


def claiming(*what: str) -> subprocess.Popen[str]:
    """Return a process that has claimed something."""
    command = [sys.executable, "-c", CLAIMS, *what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    return process


def test_a_claim_holds_until_it_is_given_up() -> None:
    claim = Claim(TEST, "a")
    assert is_claimed(TEST, "a")
    assert not is_claimed(TEST, "b")
    assert not is_claimed(f"{TEST}a")
    with pytest.raises(Claimed):
        Claim(TEST, "a")
    claim.close()
    claim.close()
    assert not is_claimed(TEST, "a")


def test_asking_often_changes_nothing() -> None:
    claim = Claim(TEST, "asked")
    assert all(is_claimed(TEST, "asked") for _ in range(1000))
    claim.close()


def test_the_holder_is_named_and_a_killed_one_holds_nothing() -> None:
    process = claiming(TEST, "killed")
    try:
        with pytest.raises(Claimed) as raised:
            Claim(TEST, "killed")
        assert raised.value.holder.pid == process.pid
        assert raised.value.holder.trusted
        assert str(raised.value.holder).endswith(f" (process {process.pid})")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    Claim(TEST, "killed").close()


@pytest.mark.root
def test_what_another_user_holds_is_not_trusted() -> None:
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    process = subprocess.Popen(
        [*prefix, "/usr/bin/python3", "-c", TAKES_A_NAME, _abstract_name(TEST, "squatted")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(Claimed) as raised:
            Claim(TEST, "squatted")
        assert not raised.value.holder.trusted
    finally:
        process.communicate("\n")


def _abstract_name(*what: str) -> str:
    """Return the name that a claim takes, as the kernel lists it."""
    claim = Claim(*what)
    inode = os.fstat(claim.fileno()).st_ino
    table = Path("/proc/net/unix").read_text().splitlines()
    name = next(line.split("@")[1] for line in table if line.split()[6] == str(inode))
    claim.close()
    return name


@pytest.mark.root
def test_each_network_namespace_has_claims_of_its_own(lonely_host: Host) -> None:
    claim = Claim(TEST, "elsewhere")
    with lonely_host.inside():
        assert not is_claimed(TEST, "elsewhere")
        Claim(TEST, "elsewhere").close()
    claim.close()
