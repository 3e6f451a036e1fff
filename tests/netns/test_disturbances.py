"""What disturbs a run from outside: it is stopped, its rules are flushed, its rules cannot be removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from certbot_standalone_nfq.session import keeper
from lab.http import KEPT_PAGE_REQUEST, PAGE_REQUEST, ask, body, read_response, request
from lab.interceptor import (
    EBPF,
    KEY_AUTHORIZATION,
    REMOVABLE,
    VARIANTS,
    intercepting,
    interceptor_command,
    interceptor_process,
)
from lab.load import load
from lab.nginx import PAGE
from lab.processes import running, wait_until
from lab.shuffler import inspecting
from tests.netns.conftest import Lab
from tests.netns.test_lifecycle import NOT_FOUND, helpers, is_clean


def test_a_stopped_process_holds_up_no_bystander(lab: Lab) -> None:
    with interceptor_process(lab.server) as process, lab.client.connect(lab.server.ipv4) as kept:
        process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            kept.sendall(KEPT_PAGE_REQUEST)
            assert body(read_response(kept)) == PAGE
        assert body(ask(lab.client, lab.server.ipv6, PAGE_REQUEST)) == PAGE
        process.send_signal(signal.SIGCONT)
        assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION


@pytest.mark.parametrize("selection", ["port", "stateless-port"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_process_that_is_stopped_with_the_whole_port_queued_holds_up_no_bystander(
    lab: Lab, variant: str, selection: str
) -> None:
    before, others = lab.server.rules(), helpers(lab.server)
    with (
        interceptor_process(lab.server, capture=variant, selection=selection) as process,
        lab.client.connect(lab.server.ipv4, timeout=60) as kept,
    ):
        process.send_signal(signal.SIGSTOP)
        kept.sendall(KEPT_PAGE_REQUEST)
        assert body(read_response(kept)) == PAGE
        wait_until(lambda: lab.server.rules() == before, "the watchdog has removed the rules")
        for address in (lab.server.ipv4, lab.server.ipv6):
            assert body(ask(lab.client, address, PAGE_REQUEST)) == PAGE
        process.send_signal(signal.SIGCONT)
    assert process.returncode == 0
    assert is_clean(lab.server, before)
    wait_until(lambda: not helpers(lab.server) - others, "the watchdog is gone")


@pytest.mark.firewall
@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_challenges_are_answered_where_another_program_queues_what_passes(fresh_lab: Lab, variant: str) -> None:
    """The reset in a request's place is on its way to the server for as long as that takes, which may be too long."""
    client, server = fresh_lab.client, fresh_lab.server
    answered = 0
    with inspecting(server), interceptor_process(server, capture=variant):
        for address in (server.ipv4, server.ipv6) * 5:
            with contextlib.suppress(OSError):
                answered += body(ask(client, address)) == KEY_AUTHORIZATION
            assert body(ask(client, address, PAGE_REQUEST)) == PAGE
    assert answered > 5


FLUSHES = {
    "all rules": "iptables -t mangle -F; ip6tables -t mangle -F",
    "all rules and chains": "for program in iptables ip6tables; do $program -t mangle -F; $program -t mangle -X; done",
    "the hooks' rules": "iptables -t mangle -F INPUT; ip6tables -t mangle -F INPUT",
    "those of IPv6": "ip6tables -t mangle -F",
    "restored": "printf '*mangle\\nCOMMIT\\n' | iptables-restore",
}


@pytest.mark.parametrize("flush", [*FLUSHES.values(), "nft flush ruleset"], ids=[*FLUSHES, "by nft"])
@pytest.mark.parametrize("variant", REMOVABLE)
def test_rules_that_another_program_removes_are_added_again_once_and_it_is_told(
    lab: Lab, variant: str, flush: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variant == "nftables" or (variant == "iptables-legacy" and "nft" in flush):
        flush = (
            "nft delete table inet $(nft list tables | grep -o certbot.*)"
            if variant == "nftables"
            else FLUSHES["restored"]
        )
    monkeypatch.setattr(keeper, "SECONDS", 0.1)
    command = flush.replace("iptables", variant).replace("ip6tables", variant.replace("ip", "ip6"))
    before = lab.server.rules()
    with intercepting(lab.server, capture=variant) as (interception, _):
        assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
        installed = lab.server.rules()
        lab.server.run("sh", "-c", command)
        wait_until(lambda: lab.server.rules() == installed, "the rules are there again")
        for address in (lab.server.ipv4, lab.server.ipv6):
            assert body(ask(lab.client, address)) == KEY_AUTHORIZATION
        with lab.server.inside():
            assert interception.remarks() == [keeper.REMARK]
        lab.server.run("sh", "-c", command)
        with lab.server.inside():
            assert interception.remarks() == [keeper.REMARK]
        assert lab.server.rules() != installed
    assert is_clean(lab.server, before)
    assert caplog.text.count(keeper.REMARK) == 1


def test_requests_that_pile_up_before_a_stopped_process_hold_up_no_bystander(fresh_lab: Lab) -> None:
    with interceptor_process(fresh_lab.server) as process:
        process.send_signal(signal.SIGSTOP)
        flood = [fresh_lab.client.connect(fresh_lab.server.ipv4) for _ in range(200)]
        for connection in flood:
            connection.sendall(request("flood"))
        assert body(ask(fresh_lab.client, fresh_lab.server.ipv4, PAGE_REQUEST)) == PAGE
        process.send_signal(signal.SIGCONT)
        for connection in flood:
            assert body(read_response(connection)) == NOT_FOUND
            connection.close()
        assert body(ask(fresh_lab.client, fresh_lab.server.ipv4)) == KEY_AUTHORIZATION


@pytest.fixture
def refusing(tmp_path: Path) -> Path:
    """A folder for PATH, whose iptables removes nothing as long as there is a file `refuse` in it."""
    for name in ("iptables", "ip6tables"):
        for suffix in ("", "-restore", "-save"):
            real = shutil.which(name + suffix, path="/usr/sbin:/sbin")
            tool = tmp_path / f"{name}{suffix}"
            tool.write_text(f'#!/bin/sh\n[ -e {tmp_path}/refuse ] && exit 3\nexec {real} "$@"\n')
            tool.chmod(0o755)
    return tmp_path


@pytest.mark.anywhere
@pytest.mark.parametrize("selection", ["prefilter", "port"])
def test_a_removal_that_fails_under_load_fails_no_request_and_is_made_up_for_by_the_watchdog(
    fresh_lab: Lab, refusing: Path, selection: str
) -> None:
    """Packets that come back from the queue meet our rules, which still stand.

    Those that wait when the queue is closed are dropped, and sent again: in `lab` only after two seconds.
    """
    before, others = fresh_lab.server.rules(), helpers(fresh_lab.server)
    command = interceptor_command(fresh_lab.server, capture="iptables", selection=selection)
    environment = {**os.environ, "PATH": f"{refusing}:{os.environ['PATH']}"}
    with (
        load(fresh_lab.client, f"http://{fresh_lab.server.ipv4}/") as counted,
        running(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert body(ask(fresh_lab.client, fresh_lab.server.ipv4)) == KEY_AUTHORIZATION
        (refusing / "refuse").touch()
        process.stdin.close()
        assert process.wait(30) == 1
        assert "NFQUEUE" in fresh_lab.server.rules()
        (refusing / "refuse").unlink()
        wait_until(lambda: not helpers(fresh_lab.server) - others, "the watchdog has done its work", seconds=60)
    assert is_clean(fresh_lab.server, before)
    assert counted.requests
    assert counted.failures == 0
    assert counted.slowest < 1.5
