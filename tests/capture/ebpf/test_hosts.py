"""What the program takes of requests for any token: those under a pending name, by their Host field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01.any_token import AnyTokenSolver
from lab.ebpf import Bench, bench
from tests.capture.ebpf.taking import is_taken
from tests.challenges.http01.test_any_token import NAMES, THUMBPRINT, TOKEN, request
from tests.wire.proxies import PROXY_HEADERS

pytestmark = pytest.mark.root
SOLVER = AnyTokenSolver()
for name in NAMES:
    SOLVER.add(name, THUMBPRINT)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Bench]:
    with bench(AnyTokenSolver.selectors(80)) as made:
        made.expect(*SOLVER.pending_keys())
        yield made


@pytest.mark.parametrize("link_header", [14, 0])
@pytest.mark.parametrize(
    "ours",
    [
        request("Host: example.com"),
        request("host:EXAMPLE.com:80"),
        request("User-Agent: a", "HOST: \t Example.com", "Accept: */*"),
        request("Host: 192.0.2.1:80"),
        request("Host: [2001:DB8::1]"),
        request("Host: [2001:db8::1]:5002"),
        request("Host: xn--bcher-kva.example", version="HTTP/1.0"),
        request("Host: example.com", token="a" * 22),
        request("Host: example.com", token="Z9_-" * 32),
        request("X: " + "x" * 350, "Host: example.com", "Y: " + "y" * 1000),
        request("Host: example.com").replace(b"\r\n", b"\n"),
        request("Host: example.com") + request("Host: other.example"),
    ],
)
def test_a_request_under_a_pending_name_is_taken(loaded: Bench, ours: bytes, link_header: int) -> None:
    assert is_taken(loaded, ours, link_header)


@pytest.mark.parametrize(
    "other",
    [
        request("Host: other.example"),
        request("Host: www.example.com"),
        request("Host: example.com.evil.example"),
        request("Host: example.co"),
        request("Host: 2001:db8::1"),
        request("Host: [2001:db8::2]"),
        request("Host:"),
        request("Hostess: example.com"),
        request(),
        request("Accept: */*"),
        request("Host: example.com", "Host: example.com"),
        request("Host: example.com", " folded"),
        request() + request("Host: example.com"),
        request("Host: example.com", token=TOKEN + "?x"),
        request("Host: example.com", token=TOKEN + "/"),
        request("Host: example.com", token="index.html"),
        request("Host: example.com", token="a" * 21),
        request("Host: example.com", token="a" * 129),
        request("Host: example.com", version="HTTP/2.0"),
        request("Host: example.com", version="HTTP/1.1 "),
        request("Host: example.com").replace(b"GET", b"HEAD"),
        request("X: " + "x" * 500, "Host: example.com"),
    ],
)
def test_all_else_passes(loaded: Bench, other: bytes) -> None:
    assert not is_taken(loaded, other)


def test_a_request_cut_before_its_host_fields_end_is_the_servers(loaded: Bench) -> None:
    whole = request("User-Agent: test", "Host: example.com", "Accept: */*")
    enough = whole.index(b"\r\nAccept") + 1
    for cut in range(1, len(whole) + 1):
        assert is_taken(loaded, whole[:cut]) == (cut >= enough)


@pytest.mark.parametrize("header", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
def test_a_proxy_header_may_come_first(loaded: Bench, header: bytes) -> None:
    assert is_taken(loaded, header + request("Host: example.com"))
    assert not is_taken(loaded, header + request("Host: other.example"))


def test_a_token_has_the_alphabet_of_base64url(loaded: Bench) -> None:
    before, after = request("Host: example.com").split(TOKEN[30].encode() + TOKEN[31:].encode())
    requests = [before + bytes([byte]) + TOKEN[31:].encode() + after for byte in range(256)]
    taken = [is_taken(loaded, each) for each in requests]
    assert taken == [SOLVER.recognise(each) is not None for each in requests]
    assert sum(taken) == 64


@given(
    st.lists(
        st.sampled_from([b"Host: example.com", b"hOST:example.com:1", b"A: b", b" ", b"", b"Host", b"\r", b"Host : x"])
    )
)
def test_what_is_taken_the_solver_takes_or_waits_for(loaded: Bench, lines: list[bytes]) -> None:
    whole = request()[:-2] + b"\r\n".join([*lines, b"", b""])
    if is_taken(loaded, whole):
        assert SOLVER.recognise(whole) is not None
