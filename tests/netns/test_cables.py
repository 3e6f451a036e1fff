"""Cables that delay, lose, double, overtake and damage, as the kernel's netem does it. Made where the kernel has it."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator

import pytest

from lab.bystander import Bystander, offer
from lab.hosts import Host
from lab.http import body, read_all, request
from lab.interceptor import EBPF, KEY_AUTHORIZATION, KINDS, VARIANTS, intercepting
from tests.netns.conftest import Lab

FAMILIES = ["ipv4", "ipv6"]
VALIDATIONS = 20
PATIENCE = 150
WAYS = [*((variant, "prefilter") for variant in (*VARIANTS, *EBPF)), *((kind, "stateless-port") for kind in KINDS)]
CABLES = {
    "anything but damage": "delay 30ms 15ms loss 5% duplicate 10% reorder 20% 50%",
    "damage": "delay 2ms corrupt 10%",
    "a narrow one": "rate 2mbit delay 100ms",
}


@contextlib.contextmanager
def cable(description: str, *ends: Host) -> Iterator[None]:
    """Let what these hosts send fare so, for a while."""
    for end in ends:
        end.run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "limit", "10000", *description.split())
    try:
        yield
    finally:
        for end in ends:
            end.run("tc", "qdisc", "delete", "dev", "eth0", "root")


def validate(lab: Lab, family: str) -> str:
    """Ask once, and leave everything else to TCP."""
    with lab.client.connect(getattr(lab.server, family), timeout=PATIENCE) as connection:
        connection.sendall(request())
        return body(read_all(connection))


@pytest.mark.parametrize("description", CABLES.values(), ids=CABLES)
@pytest.mark.parametrize(("variant", "selection"), WAYS)
def test_challenges_are_answered_and_bystanders_unharmed(
    fresh_lab: Lab, variant: str, selection: str, description: str
) -> None:
    client, server, nginx = fresh_lab.client, fresh_lab.server, fresh_lab.nginx
    digest = offer(nginx, mebibytes=1)
    with (
        intercepting(server, capture=variant, selection=selection),
        cable(description, client, server),
        concurrent.futures.ThreadPoolExecutor(VALIDATIONS) as validators,
    ):
        bystander = Bystander(client, server.ipv4, "", nginx, digest, PATIENCE)
        bystander.start()
        got = validators.map(lambda family: validate(fresh_lab, family), FAMILIES * (VALIDATIONS // 2))
        assert list(got) == [KEY_AUTHORIZATION] * VALIDATIONS
        bystander.join()
        assert bystander.failure == ""
    assert "acme-challenge" not in nginx.access_log
