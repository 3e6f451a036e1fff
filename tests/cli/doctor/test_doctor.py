from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from lab import doctor
from lab.dns import Dns, resolving
from lab.doctor import NAME
from lab.hosts import Host
from lab.processes import wait_until


def test_all_is_well_on_a_host_that_can_do_it_and_takes_less_than_five_seconds(server: Host, named: Dns) -> None:
    named.address(NAME, server.ipv4, server.ipv6)
    report = doctor.examine(server, NAME)
    assert report.bad == []
    assert report.status == 0
    assert report.seconds < 5
    checks = ["privileges", "kernel", "tools", "capture", "self-test", "listener", "firewall", "queues", "clients"]
    assert list(dict.fromkeys(found["check"] for found in report.findings)) == [*checks, "name", "CAA"]
    assert report.seen("self-test").count("a challenge was answered in") == 2
    assert "nginx listens on 0.0.0.0:80." in report.seen("listener")
    assert "nginx listens on [::]:80" in report.seen("listener")


def test_findings_in_json_are_objects_of_four_strings(lonely_host: Host) -> None:
    report = doctor.examine(lonely_host)
    for found in report.findings:
        assert list(found) == ["status", "check", "seen", "cure"]
        assert all(isinstance(value, str) for value in found.values())
        assert found["status"] in ("pass", "warn", "fail")
        assert found["seen"]
        assert bool(found["cure"]) == (found["status"] != "pass")


def test_lines_say_the_same_as_json(lonely_host: Host) -> None:
    process, _ = doctor.run(lonely_host)
    lines = process.stdout.splitlines()
    assert lines[0] == "pass  privileges: CAP_NET_ADMIN and CAP_NET_RAW are in effect."
    *findings, nothing, summary = lines
    assert len(findings) == len(doctor.examine(lonely_host).findings)
    assert nothing == ""
    assert summary.startswith(f"{len(findings) - 1} pass, 1 warn, 0 fail. ")
    assert process.stderr == ""


def test_usage_errors_have_exit_status_2(lonely_host: Host) -> None:
    for arguments in (("--port", "0"), ("--port", "http"), ("--no-such-option",)):
        process, _ = doctor.run(lonely_host, *arguments)
        assert process.returncode == 2
        assert "usage:" in process.stderr


@pytest.mark.parametrize(
    ("program", "check", "said"),
    [
        ("iptables-restore", "self-test", "Did not end within"),
        ("iptables-save", "firewall", "did not end within 1 second"),
    ],
)
def test_programs_that_hang_do_not_hang_it(
    server: Host, wrapped: Callable[[str, str], str], program: str, check: str, said: str
) -> None:
    report = doctor.examine(server, path=wrapped(program, "exec tail -f /dev/null"))
    assert report.seconds < 5
    wait_until(lambda: report.survivors() == [], "the helper of the self-test that was cut off has ended")
    assert said in report.seen(check, "warn")


def test_it_leaves_rules_tables_queues_and_processes_as_they_were(server: Host, named: Dns) -> None:
    def state() -> tuple[str, ...]:
        legacy = server.run("sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names")
        queues = server.queues()
        return server.rules(), server.run("nft", "list", "ruleset"), legacy, queues

    before = state()
    report = doctor.examine(server, NAME, "--load-modules")
    assert state() == before
    assert report.survivors() == []  # and so no network namespace, which ends with the last process in it


def test_names_that_hang_do_not_hang_it(server: Host) -> None:
    with server.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, resolving(server):
        silent.bind(("127.0.0.1", 53))
        report = doctor.examine(server, *(f"host{number}.example.com" for number in range(20)))
    assert report.seconds < 5
    assert report.seen("name", "warn").count("the look-up did not end in time") == 20
    assert report.seen("CAA", "warn").count("no usable answer from 127.0.0.1 (not in time)") == 20
