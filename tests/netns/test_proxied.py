"""Behind a load balancer in TCP mode, which sends a header of the PROXY protocol ahead of a connection's octets."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest

from lab import hosts
from lab.http import PAGE_REQUEST, body, read_all, request
from lab.interceptor import EBPF, IPTABLES, KEY_AUTHORIZATION, KINDS, VARIANTS, intercepting
from lab.nginx import PAGE, nginx
from tests.netns.conftest import Lab
from tests.wire.proxies import PROXY_HEADERS

WAYS = [*((variant, "prefilter") for variant in (*VARIANTS, *EBPF)), *((kind, "port") for kind in KINDS)]
QUEUE = 4711


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server whose nginx takes no connection without such a header."""
    folder = tmp_path_factory.mktemp("proxied")
    listen = "listen 80 proxy_protocol; listen [::]:80 proxy_protocol;"
    with hosts.pair() as (client, server), nginx(server, folder / "nginx", listen=listen) as running:
        yield Lab(client, server, running, folder)


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def active(proxied: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    variant, selection = request.param
    with intercepting(proxied.server, capture=variant, selection=selection):
        yield proxied


def ask(lab: Lab, address: str, *pieces: bytes) -> str:
    """Send a segment for each piece; return the body of what comes back."""
    with lab.client.connect(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        return body(read_all(connection))


@pytest.mark.firewall
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("header", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
def test_a_challenge_is_answered_and_others_are_served(active: Lab, header: bytes, family: str) -> None:
    address = getattr(active.server, family)
    log = active.nginx.access_log
    for asked, answer in ((request(), KEY_AUTHORIZATION), (PAGE_REQUEST, PAGE)):
        for pieces in ((header + asked,), (header, asked), (header + asked[:20], asked[20:])):
            assert ask(active, address, *pieces) == answer
    assert "acme-challenge" not in active.nginx.access_log[len(log) :]


def queued(lab: Lab) -> int:
    """Return how many packets have been in the queue so far."""
    listed = lab.server.queues().splitlines()
    (line,) = [line.split() for line in listed if line.split()[0] == str(QUEUE)]
    return int(line[7])


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_only_a_text_header_has_iptables_queue_a_bystander(proxied: Lab, name: str) -> None:
    header = PROXY_HEADERS[name]
    for variant, together in itertools.product(IPTABLES, (True, False)):
        with intercepting(proxied.server, capture=variant, queue=QUEUE):
            pieces = (header + PAGE_REQUEST,) if together else (header, PAGE_REQUEST)
            assert ask(proxied, proxied.server.ipv4, *pieces) == PAGE
            # A text header that is alone in its segment, and no longer than 15 octets, is not looked at either.
            assert (queued(proxied) > 0) == (name.startswith("text") and len(pieces[0]) > 15), (variant, together)
