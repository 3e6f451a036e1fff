"""A port whose packets conntrack does not see (NOTRACK): there is no connection that could be marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hosts
from lab.capture import capture, flags
from lab.http import CLOSE, PAGE_REQUEST, ask, body, read_all, request
from lab.interceptor import EBPF, KEY_AUTHORIZATION, VARIANTS, intercepting
from lab.nginx import OTHER_ANSWER, OTHER_TOKEN, PAGE, nginx
from lab.processes import wait_until
from tests.netns.conftest import Lab

pytestmark = pytest.mark.parametrize("version", ["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("untracked")
    with hosts.pair() as (client, server), nginx(server, folder / "nginx") as running:
        hosts.retransmit_late(client)
        for program in ("iptables", "ip6tables"):
            server.run(program, "-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "NOTRACK")
            server.run(program, "-t", "raw", "-A", "OUTPUT", "-p", "tcp", "--sport", "80", "-j", "NOTRACK")
        for address in ("198.51.100.9/24", "2001:db8:100::9/64"):  # used where it is asked for
            client.run("ip", "address", "add", address, "dev", "eth0", "nodad", "preferred_lft", "0")
        yield Lab(client, server, running, folder)


@pytest.fixture(scope="module", params=[*VARIANTS, *EBPF])
def active(untracked: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with intercepting(untracked.server, capture=request.param):
        yield untracked


def test_a_challenge_is_answered(active: Lab, version: str, tmp_path: Path) -> None:
    log, before = active.nginx.access_log, active.client.complaints()
    with capture(active.client, tmp_path / "client.pcap") as captured:
        assert body(ask(active.client, getattr(active.server, version))) == KEY_AUTHORIZATION
        wait_until(lambda: not active.client.closing(), "the client's close is acknowledged")
    assert flags(captured.segments()) == ["S", "SA", "PA", "FPA", "FA", "A"]
    assert active.client.complaints() == before
    assert active.nginx.access_log == log


def test_a_challenge_in_pieces_is_answered(active: Lab, version: str) -> None:
    with active.client.connect(getattr(active.server, version)) as connection:
        sent = request()
        for start in range(0, len(sent), 25):
            connection.sendall(sent[start : start + 25])
            wait_until(lambda: not _unacknowledged(active), "the piece has arrived")
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def _unacknowledged(active: Lab) -> bool:
    return "unacked" in active.client.run("ss", "-tinH", "dport = :80")


def test_other_requests_reach_the_server_and_other_clients_are_not_queued(active: Lab, version: str) -> None:
    """The address that asks is another one than those that asked for challenges."""
    source = "2001:db8:100::9" if version == "ipv6" else "198.51.100.9"
    address, before = getattr(active.server, version), _queued(active)
    assert body(ask(active.client, address, PAGE_REQUEST, source=source)) == PAGE
    assert _queued(active) == before
    assert body(ask(active.client, address, request(OTHER_TOKEN, headers=CLOSE))) == OTHER_ANSWER


def _queued(active: Lab) -> str:
    """Return the number of the last packet that was queued."""
    shown = active.server.queues().split()
    return shown[7] if shown else "no queue"
