"""Ways to run `answer` on every machine of a fleet: deploy/ and docs/fleets.md, by the real tools as far as they go."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.answerer import THUMBPRINT
from lab.documents import blocks
from lab.ebpf import attached
from lab.hosts import Host
from lab.http import ask, body, request
from lab.interceptor import EBPF, TOKEN, VARIANTS
from lab.processes import run, wait_until
from lab.systemd import Systemd, install_program, systemd
from tests.e2e.conftest import Internet

DEPLOY = Path(__file__).parents[2] / "deploy"
DAEMON_SET = DEPLOY / "kubernetes/daemonset.yaml"
NAME = "www.example.com"
SERVICE = "certbot-standalone-nfq-answer"
POINTS = 24
PROGRAM = "/opt/certbot/bin/certbot-standalone-nfq"
OF_TOOLS = Path(sys.executable).parent


def captures(server: Host) -> tuple[object, ...]:
    """Return what there is of any way to capture."""
    return server.rules(), server.queues(), attached(server)


@pytest.fixture(scope="module")
def manager(everybody: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """systemd, with the unit installed and started by the commands of the documents."""
    before = captures(everybody.server)
    with systemd(everybody.server, tmp_path_factory.mktemp("systemd") / "disk") as made:
        install_program(made)
        made.follow(blocks("fleets.md", "systemd")[0])
        yield made
        made.control("stop", SERVICE)
        assert captures(everybody.server) == before


def answers(everybody: Internet, name: str = NAME) -> bool:
    asked = request(TOKEN, headers=f"Host: {name}\r\nConnection: close\r\n")
    return body(ask(everybody.client, everybody.server.ipv4, asked)) == f"{TOKEN}.{THUMBPRINT}"


@contextlib.contextmanager
def changed(manager: Systemd, *lines: str) -> Iterator[None]:
    """Run the service with further lines in its unit."""
    folder = manager.disk / f"etc/systemd/system/{SERVICE}.service.d"
    folder.mkdir()
    (folder / "test.conf").write_text("\n".join(("[Service]", *lines)))
    try:
        manager.control("daemon-reload")
        manager.control("restart", SERVICE)
        yield
    finally:
        (folder / "test.conf").unlink()
        folder.rmdir()
        manager.control("daemon-reload")
        manager.control("restart", SERVICE)


def main_process(manager: Systemd) -> str:
    return manager.control("show", "--property=MainPID", "--value", SERVICE).strip()


@pytest.mark.parametrize("way", [*VARIANTS, *EBPF])
def test_it_answers_within_its_limits(everybody: Internet, manager: Systemd, way: str) -> None:
    command = f"{PROGRAM} answer --config /etc/certbot-standalone-nfq/names --capture {way}"
    with changed(manager, "ExecStart=", f"ExecStart={command}"):
        assert answers(everybody)
    assert "acme-challenge" not in everybody.nginx.access_log


def test_a_reload_has_it_answer_for_another_name(everybody: Internet, manager: Systemd) -> None:
    process = main_process(manager)
    names = manager.disk / "etc/certbot-standalone-nfq/names"
    names.write_text(f"{names.read_text()}other.example.com {THUMBPRINT}\n")
    manager.control("reload", SERVICE)
    wait_until(lambda: answers(everybody, "other.example.com"), "the other name is answered for")
    assert main_process(manager) == process


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_it_is_started_again_if_it_dies_or_hangs(everybody: Internet, manager: Systemd, number: str) -> None:
    with changed(manager, "WatchdogSec=1", "RestartSec=0"):
        process = main_process(manager)
        manager.control("kill", "--kill-whom=main", f"--signal={number}", SERVICE)
        wait_until(lambda: main_process(manager) not in ("0", process), "another process was started")
        wait_until(lambda: answers(everybody), "it answers")


def test_systemd_finds_no_fault_with_the_unit_and_its_limits_are_of_use(manager: Systemd) -> None:
    """The threshold is in tenths of systemd's points; without the limits there are 96."""
    assert run(manager.command("systemd-analyze", "--no-pager", "verify", f"{SERVICE}.service")) == ""
    rating = ("security", "--offline=yes", f"--threshold={POINTS}")
    run(manager.command("systemd-analyze", "--no-pager", *rating, f"{SERVICE}.service"))


def test_the_playbook_of_the_documents_is_one(tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(blocks("fleets.md", "Ansible")[0])
    run([str(OF_TOOLS / "ansible-playbook"), "--syntax-check", "--inventory=web,", str(playbook)])


def test_all_ways_to_run_it_give_it_the_same_capabilities() -> None:
    unit = (DEPLOY / f"systemd/{SERVICE}.service").read_text()
    (bounding,) = re.findall("^CapabilityBoundingSet=(.*)", unit, re.MULTILINE)
    service = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]["answer"]
    by_kubernetes = container()["securityContext"]["capabilities"]["add"]
    assert bounding.split() == [f"CAP_{name}" for name in by_kubernetes]
    assert service["cap_add"] == by_kubernetes


def container() -> Any:
    """Return the DaemonSet's."""
    *_, daemon_set = yaml.safe_load_all(DAEMON_SET.read_text())
    (only,) = daemon_set["spec"]["template"]["spec"]["containers"]
    return only


def test_the_daemon_set_is_valid_for_kubernetes() -> None:
    checked = [str(OF_TOOLS / "kubernetes-validate"), "--strict", str(DAEMON_SET)]
    said = subprocess.run(checked, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_liveness_probe_succeeds_as_long_as_requests_are_answered(everybody: Internet, manager: Systemd) -> None:
    """On the node itself, past its own web server."""
    probe = container()["livenessProbe"]["httpGet"]
    fields = "".join(f"{field['name']}: {field['value']}\r\n" for field in probe["httpHeaders"])
    asked = f"GET {probe['path']} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n".encode()
    server = everybody.server
    for action, status in (("stop", b" 404 "), ("start", b" 200 ")):
        manager.control(action, SERVICE)
        assert status in ask(server, server.ipv4, asked, probe["port"]).splitlines()[0]
