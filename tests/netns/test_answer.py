"""The program that answers any token, on a real host with a real server on the port."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Iterator

import pytest

from lab.answerer import THUMBPRINT, Answerer, answerer
from lab.http import CLOSE, PAGE_REQUEST, ask, body, request
from lab.interceptor import EBPF, VARIANTS
from lab.nginx import PAGE
from lab.processes import wait_until
from tests.netns.conftest import Lab

NAME, OTHER_NAME = "example.com", "other.example"
NOT_FOUND = "HTTP/1.1 404 Not Found"
ANY_TOKEN = "any-token-of-the-account_0123456789-abcdefghij"
ANSWER = f"{ANY_TOKEN}.{THUMBPRINT}"


def asked(lab: Lab, name: str = NAME, token: str = ANY_TOKEN, address: str = "") -> str:
    """Return what is said to a request for a token under a name."""
    return body(
        ask(lab.client, address or lab.server.ipv4, request(token, headers=f"Host: {name}\r\nConnection: close\r\n"))
    )


@pytest.fixture(scope="module", params=[*VARIANTS, *EBPF])
def service(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Answerer]:
    """The program on the laboratory's server, by each way to capture."""
    names = (NAME, lab.server.ipv4, lab.server.ipv6)
    with answerer(lab.server, *names, arguments=("--thumbprint", THUMBPRINT, "--capture", request.param)) as running:
        yield running


@pytest.mark.firewall
@pytest.mark.essential
def test_any_token_is_answered_and_the_server_never_sees_it(lab: Lab, service: Answerer) -> None:
    log = lab.nginx.access_log
    assert asked(lab) == ANSWER
    assert asked(lab, f"{NAME.upper()}:80", address=lab.server.ipv6) == ANSWER
    assert asked(lab, lab.server.ipv4) == ANSWER
    assert asked(lab, f"[{lab.server.ipv6}]:80", address=lab.server.ipv6) == ANSWER
    assert lab.nginx.access_log == log
    (line, *_) = wait_until(
        lambda: [each for each in service.answered if each.endswith(ANY_TOKEN)],
        "the answer is told, which comes after it is sent",
    )
    assert re.search(rf" {NAME}: request from {lab.client.ipv4} over IPv4 answered in [0-9.]+ ms, token ", line)


def test_all_else_is_the_servers(lab: Lab, service: Answerer) -> None:
    assert asked(lab, OTHER_NAME) == NOT_FOUND
    assert asked(lab, token="short") == NOT_FOUND
    assert body(ask(lab.client, lab.server.ipv4, PAGE_REQUEST)) == PAGE
    unnamed = request(ANY_TOKEN, headers="Connection: close\r\n")
    assert body(ask(lab.client, lab.server.ipv4, unnamed)) == "HTTP/1.1 400 Bad Request"
    twice = request(ANY_TOKEN, headers=f"Host: {NAME}\r\n{CLOSE}")
    assert body(ask(lab.client, lab.server.ipv4, twice)) == "HTTP/1.1 400 Bad Request"


def test_a_request_may_come_in_pieces_the_host_field_in_a_later_one(lab: Lab, service: Answerer) -> None:
    whole = request(ANY_TOKEN, headers=f"Accept: */*\r\n{CLOSE}")
    for cuts in ((10, 60), (whole.index(b"Accept"),), (whole.index(b"Host"), len(whole) - 2)):
        assert in_pieces(lab, whole, cuts) == (NOT_FOUND if service.capture in EBPF else ANSWER)
    assert in_pieces(lab, whole, (len(whole) - 1,)) == ANSWER
    assert in_pieces(lab, request(ANY_TOKEN, headers=CLOSE.replace(NAME, OTHER_NAME)), (10, 60)) == NOT_FOUND


def in_pieces(lab: Lab, whole: bytes, cuts: tuple[int, ...]) -> str:
    """Return what is said to a request in pieces, each sent once the one before is acknowledged."""
    with lab.client.connect(lab.server.ipv4) as connection:
        for begin, end in zip((0, *cuts), (*cuts, len(whole))):
            connection.sendall(whole[begin:end])
            wait_until(functools.partial(is_acknowledged, lab, connection), "the piece is acknowledged")
        received = b""
        while octets := connection.recv(1 << 16):
            received += octets
    return body(received)


def is_acknowledged(lab: Lab, connection: socket.socket) -> bool:
    return "unacked:" not in lab.client.run("ss", "-tinH", f"sport = :{connection.getsockname()[1]}")
