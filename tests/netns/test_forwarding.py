"""The web server is on a host behind ours, as a published container's port is: DNAT, and the FORWARD hook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import hosts
from lab.capture import capture, flags
from lab.hosts import Host
from lab.http import CLOSE, PAGE_REQUEST, ask, body, request
from lab.interceptor import EBPF, KEY_AUTHORIZATION, KINDS, VARIANTS, intercepting
from lab.nginx import OTHER_ANSWER, OTHER_TOKEN, PAGE, nginx
from lab.processes import wait_until
from tests.netns.conftest import Lab

pytestmark = pytest.mark.firewall


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A client, a host with the plugin, and nginx on port 8080 of a third; clients see the host's port 80."""
    folder = tmp_path_factory.mktemp("container")
    with hosts.pair() as (client, server), hosts.host("d") as behind:
        hosts.retransmit_late(client)
        hosts.publish(server, behind, 8080)
        with nginx(behind, folder / "nginx", port=8080) as running:
            yield Lab(client, server, running, folder)


@pytest.fixture
def behind(container: Lab) -> Host:
    return container.nginx.host


@pytest.fixture(params=["ipv4", "ipv6"])
def address(container: Lab, request: pytest.FixtureRequest) -> str:
    return str(getattr(container.server, request.param))


WAYS = [*((variant, "prefilter") for variant in (*VARIANTS, *EBPF)), *((kind, "port") for kind in KINDS)]


@pytest.fixture(scope="module", params=WAYS)
def active(container: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    variant, selection = request.param
    with intercepting(container.server, capture=variant, selection=selection):
        yield container


@pytest.mark.essential
def test_a_challenge_to_a_published_port_is_answered(active: Lab, address: str, tmp_path: Path) -> None:
    log, before = active.nginx.access_log, active.client.complaints()
    with capture(active.client, tmp_path / "client.pcap") as captured:
        assert body(ask(active.client, address)) == KEY_AUTHORIZATION
        wait_until(lambda: not active.client.closing(), "the client's close is acknowledged")
    assert flags(captured.segments()) == ["S", "SA", "PA", "FPA", "FA", "A"]
    assert active.client.complaints() == before
    assert active.nginx.access_log == log
    wait_until(lambda: "ESTAB" not in active.nginx.host.run("ss", "-tanH", "sport = :8080"), "nginx let go of it")


def test_other_requests_reach_the_server_behind(active: Lab, address: str) -> None:
    assert body(ask(active.client, address, PAGE_REQUEST)) == PAGE
    assert body(ask(active.client, address, request(OTHER_TOKEN, headers=CLOSE))) == OTHER_ANSWER


def as_sent(segments: list[Any]) -> list[bytes]:
    """Return TCP segments as octets, but for what NAT and the hardware have a right to: port and checksum.

    They are in each connection's own order: what is queued may be overtaken by another connection's handshake.
    """
    octets = []
    for each in sorted(segments, key=lambda segment: int(segment["TCP"].sport)):
        tcp = each["TCP"].copy()
        tcp.dport, tcp.chksum = 80, 0
        octets.append(bytes(tcp))
    return octets


def test_bystanders_segments_reach_the_server_byte_for_byte(
    active: Lab, behind: Host, address: str, tmp_path: Path
) -> None:
    """The server's own interface is behind all of our rules: its capture shows what they let through."""
    source = f"tcp and src host {active.client.ipv6 if ':' in address else active.client.ipv4}"
    with (
        capture(active.client, tmp_path / "sent.pcap", source) as sent,
        capture(behind, tmp_path / "received.pcap", source) as received,
    ):
        for octets in (request(OTHER_TOKEN, headers=CLOSE), request("unknown", headers=CLOSE), PAGE_REQUEST):
            ask(active.client, address, octets)
        wait_until(lambda: not active.client.closing(), "the last segment is sent")
        received.wait_for(len(sent.segments()))
    assert len(sent.segments()) >= 3 * 4  # SYN, its acknowledgment, the request, FIN; the answer is acknowledged by any
    assert as_sent(sent.segments()) == as_sent(received.segments())
