"""Beginnings and ends, orderly and violent: nothing stays behind, and traffic goes on whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.session import loop
from lab.hosts import Host
from lab.http import CLOSE, PAGE_REQUEST, ask, body, read_all, request
from lab.interceptor import (
    BY_RULES,
    CLIENTS,
    EBPF,
    KEY_AUTHORIZATION,
    VARIANTS,
    intercepting,
    interceptor_command,
    interceptor_process,
)
from lab.nginx import PAGE
from lab.processes import run, running, wait_until
from tests.netns.conftest import Lab

WATCHDOGS_SCRIPT = "read -r message && exit 0"
NOT_FOUND = "HTTP/1.1 404 Not Found"
RESTORE = shutil.which("iptables-restore", path="/usr/sbin:/sbin")


def helpers(host: Host) -> set[str]:
    """Return the process ids of the watchdogs on a host."""
    return {pid for pid in run(["ip", "netns", "pids", host.name]).split() if WATCHDOGS_SCRIPT in command_line(pid)}


def command_line(pid: str) -> str:
    """Return a process's command line, or nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_clean(host: Host, before: str) -> bool:
    return host.rules() == before and not host.queues()


def is_taken_over(lab: Lab, connection: socket.socket) -> bool:
    """Whether the server does not have a connection of the client's any more."""
    return not lab.server.run("ss", "-tnH", f"dport = :{connection.getsockname()[1]}")


@pytest.mark.firewall
@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, pytest.param(signal.SIGKILL, marks=pytest.mark.essential)],
)
def test_a_killed_process_leaves_nothing_behind(lab: Lab, variant: str, number: signal.Signals) -> None:
    before, others = lab.server.rules(), helpers(lab.server)
    with interceptor_process(lab.server, capture=variant) as process:
        assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
        process.send_signal(number)
        wait_until(lambda: is_clean(lab.server, before), "the rules are gone")
    assert body(ask(lab.client, lab.server.ipv4, request(headers=CLOSE))) == NOT_FOUND
    wait_until(lambda: not helpers(lab.server) - others, "the watchdog is gone")


def test_what_a_run_leaves_that_died_together_with_its_watchdog_is_harmless_and_removed_by_the_next(lab: Lab) -> None:
    before, others = lab.server.rules(), helpers(lab.server)
    with interceptor_process(lab.server, capture="iptables") as process:
        (watchdog,) = helpers(lab.server) - others
        lab.server.run("kill", "-KILL", watchdog)
        process.kill()
        process.wait()
    assert "CERTBOT-NFQ" in lab.server.rules()
    for address in (lab.server.ipv4, lab.server.ipv6):
        assert body(ask(lab.client, address, PAGE_REQUEST)) == PAGE
        assert body(ask(lab.client, address, request(headers=CLOSE))) == NOT_FOUND
    with intercepting(lab.server, capture="iptables"):
        assert lab.server.rules().count("-j NFQUEUE") == 6
        assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
    assert is_clean(lab.server, before)


@pytest.mark.firewall
def test_a_connection_that_a_dead_run_had_taken_over_is_reset_not_left_hanging(lab: Lab) -> None:
    with interceptor_process(lab.server) as process, lab.client.connect(lab.server.ipv4) as connection:
        connection.sendall(request()[:-2])  # all but the end of the head
        wait_until(lambda: is_taken_over(lab, connection), "the connection is taken over")
        process.kill()
        connection.sendall(b"\r\n")
        with pytest.raises(ConnectionResetError):
            read_all(connection)


@pytest.mark.firewall
@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_runs_at_once_do_not_disturb_each_other(lab: Lab, variant: str, first_to_end: int) -> None:
    before = lab.server.rules()
    tokens = ["first-token-of-a-run_aaaaaaaaaaaaaaaaaaaaaa", "second-token-of-a-run_bbbbbbbbbbbbbbbbbbbbb"]
    runs = [intercepting(lab.server, {token: f"answer to {token}"}, capture=variant) for token in tokens]
    for each in runs:
        each.__enter__()
    for _ in range(3):
        for token in tokens:
            assert body(ask(lab.client, lab.server.ipv4, request(token))) == f"answer to {token}"
        assert body(ask(lab.client, lab.server.ipv4, request(headers=CLOSE))) == NOT_FOUND
        assert body(ask(lab.client, lab.server.ipv4, PAGE_REQUEST)) == PAGE
    runs[first_to_end].__exit__(None, None, None)
    assert body(ask(lab.client, lab.server.ipv4, request(tokens[first_to_end], headers=CLOSE))) == NOT_FOUND
    other = tokens[1 - first_to_end]
    assert body(ask(lab.client, lab.server.ipv6, request(other))) == f"answer to {other}"
    runs[1 - first_to_end].__exit__(None, None, None)
    assert is_clean(lab.server, before)


@pytest.mark.firewall
@pytest.mark.parametrize("client", CLIENTS)
def test_starting_and_stopping_again_and_again_leaves_nothing(lab: Lab, client: str) -> None:
    before, others = lab.server.rules(), helpers(lab.server)
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with intercepting(lab.server, queue_client=client):
            assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
    assert is_clean(lab.server, before)
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == (threads, descriptors)
    assert not helpers(lab.server) - others


@pytest.mark.firewall
def test_an_answer_under_way_is_seen_through_when_the_run_ends(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client acknowledges nothing until its firewall lets the answer in, which is after the end has begun."""
    monkeypatch.setattr(loop, "SETTLE_SECONDS", 10)
    block = ("INPUT", "-p", "tcp", "--sport", "80", "--tcp-flags", "PSH", "PSH", "-j", "DROP")
    with lab.client.connect(lab.server.ipv4) as connection:
        with intercepting(lab.server):
            lab.client.run("iptables", "-A", *block)
            connection.sendall(request())
            wait_until(lambda: is_taken_over(lab, connection), "the connection is taken over")
            threading.Timer(0.5, lab.client.run, ("iptables", "-D", *block)).start()
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def test_a_failure_in_handling_a_packet_lets_it_pass_and_is_told_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with intercepting(lab.server, capture=BY_RULES):
        monkeypatch.setattr(Http01Solver, "recognise", fail)
        for _ in range(3):
            assert body(ask(lab.client, lab.server.ipv4, request(headers=CLOSE))) == NOT_FOUND
        monkeypatch.undo()
        assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "handling a packet failed" in warnings[0].getMessage()


@pytest.mark.firewall
def test_a_failure_of_the_whole_thread_gives_the_queue_up_and_traffic_goes_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = lab.server.rules()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with intercepting(lab.server, capture=BY_RULES):
        monkeypatch.setattr(Engine, "tick", fail)
        ask(lab.client, lab.server.ipv4)
        wait_until(lambda: not lab.server.queues(), "the queue is given up")
        assert body(ask(lab.client, lab.server.ipv4, request(headers=CLOSE))) == NOT_FOUND
    assert "go to the web server from here on" in caplog.text
    assert is_clean(lab.server, before)


@pytest.mark.firewall
def test_a_thread_that_cannot_be_started_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    before, others, descriptors = lab.server.rules(), helpers(lab.server), len(list(Path("/proc/self/fd").iterdir()))

    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"), intercepting(lab.server, queue_client="netlink"):
        pass
    assert is_clean(lab.server, before)
    assert helpers(lab.server) == others
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_segment_that_a_firewall_forbids_is_told_once_and_repeated(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    block = ("OUTPUT", "-p", "tcp", "--sport", "80", "--tcp-flags", "PSH", "PSH", "-j", "DROP")
    with intercepting(lab.server, capture=BY_RULES), lab.client.connect(lab.server.ipv4) as connection:
        lab.server.run("iptables", "-A", *block)
        connection.sendall(request())
        wait_until(lambda: "could not be sent" in caplog.text, "the failure is noted")
        lab.server.run("iptables", "-D", *block)
        assert body(read_all(connection)) == KEY_AUTHORIZATION
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_rules_of_a_program_that_is_still_installing_them_when_we_die_are_removed(lab: Lab, tmp_path: Path) -> None:
    """The watchdog waits for the firewall's programs as well as for the process that ran them."""
    before, others = lab.server.rules(), helpers(lab.server)
    started, go = tmp_path / "started", tmp_path / "go"
    slow = tmp_path / "iptables-restore"
    slow.write_text(f'#!/bin/sh\ntouch {started}\nuntil [ -e {go} ]; do sleep 0.02; done\nexec {RESTORE} "$@"\n')
    slow.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with running(
        interceptor_command(lab.server, capture="iptables"), env=environment, stdin=subprocess.PIPE
    ) as process:
        wait_until(started.exists, "the rules are being installed")
        process.kill()
    watchdogs = helpers(lab.server) - others
    go.touch()
    assert len(watchdogs) == 1
    wait_until(lambda: not helpers(lab.server) - others, "the watchdog has done its work")
    assert is_clean(lab.server, before)


def as_nobody(capabilities: str) -> list[str]:
    """Return the command that runs another as a user without any powers but these."""
    return [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
    ]


@pytest.mark.parametrize(
    "settings", [pytest.param({"capture": BY_RULES}, marks=pytest.mark.firewall), {"capture": "iptables-nft"}]
)
def test_a_user_with_the_two_capabilities_can_intercept(lab: Lab, settings: dict[str, Any]) -> None:
    """With one more in this test, as the user might not be allowed to read this folder."""
    before, command = lab.server.rules(), interceptor_command(lab.server, **settings)
    command[4:4] = as_nobody("+net_admin,+net_raw,+dac_read_search")
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
        process.stdin.close()
        assert process.wait(30) == 0
    assert is_clean(lab.server, before)


def test_a_user_who_may_not_take_the_legacy_lock_is_told_so(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = tmp_path / "iptables-legacy-restore"
    nobody = " ".join(as_nobody("+net_admin,+net_raw"))
    restore.write_text(f'#!/bin/sh\nexec {nobody} {shutil.which(restore.name, path="/usr/sbin:/sbin")} "$@"\n')
    restore.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = helpers(lab.server)
    with (
        pytest.raises(errors.FirewallLockDenied, match=r"may not open /run/xtables.lock.*iptables-nft"),
        intercepting(lab.server, capture="iptables-legacy"),
    ):
        pass
    assert helpers(lab.server) == before
