"""What the program takes of TLS handshakes: those that ask for the challenge's protocol and a pending name."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.tls_alpn01.client_hello import Malformed, read
from certbot_standalone_nfq.challenges.tls_alpn01.solver import ONLY_PROTOCOL, TlsAlpn01Solver
from lab.ebpf import Bench, bench
from tests.capture.ebpf.taking import is_taken
from tests.wire.proxies import PROXY_HEADERS

pytestmark = pytest.mark.root
NAME = "challenge.example.com"
LONG = ".".join(["a" * 40] * 4)
OURS = ["acme-tls/1"]


@pytest.fixture(scope="module")
def loaded() -> Iterator[Bench]:
    with bench(TlsAlpn01Solver.selectors(80)) as made:
        made.expect(NAME.encode(), LONG.encode())
        yield made


def hello(name: str, protocols: Sequence[str]) -> bytes:
    """Return a ClientHello as Python's OpenSSL sends it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(protocols))
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    return sent.read()


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!HH", kind, len(content)) + content


def named(name: bytes) -> bytes:
    return extension(0, struct.pack("!HBH", len(name) + 3, 0, len(name)) + name)


def record(extensions: bytes, session: bytes = bytes(32), suites: bytes = b"\x13\x01") -> bytes:
    """Return a ClientHello with these extensions."""
    rest = bytes([len(session)]) + session + struct.pack("!H", len(suites)) + suites + b"\x01\x00"
    body = b"\x03\x03" + bytes(32) + rest + struct.pack("!H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


ASKING = b"\0\x10" + ONLY_PROTOCOL
OTHERS = b"".join(extension(kind, bytes(10)) for kind in range(20, 33))


@pytest.mark.parametrize("name", [NAME, NAME.upper(), LONG])
def test_a_handshake_for_a_pending_name_is_taken(loaded: Bench, name: str) -> None:
    assert is_taken(loaded, hello(name, OURS))


@pytest.mark.parametrize(
    ("name", "protocols"),
    [
        ("example.com", OURS),
        ("x" + NAME, OURS),
        (NAME[1:], OURS),
        (NAME + ".org", OURS),
        (LONG + "a", OURS),
        (NAME, ["h2", "http/1.1"]),
        (NAME, [*OURS, "h2"]),
        (NAME, ["acme-tls/2"]),
    ],
)
def test_handshakes_for_other_names_and_protocols_pass(loaded: Bench, name: str, protocols: Sequence[str]) -> None:
    assert not is_taken(loaded, hello(name, protocols))


@pytest.mark.parametrize(
    "extensions",
    [
        named(NAME.encode()) + ASKING,
        ASKING + named(NAME.encode()),
        OTHERS + named(NAME.encode()) + OTHERS[:28] + ASKING,
        named(NAME.encode()) + ASKING + extension(51, bytes(1222)),
    ],
)
@pytest.mark.parametrize("session", [b"", bytes(32)])
def test_extensions_come_in_any_order_among_others(loaded: Bench, extensions: bytes, session: bytes) -> None:
    whole = record(extensions, session)
    assert is_taken(loaded, whole)
    assert is_taken(loaded, PROXY_HEADERS["text-ipv4"] + whole)


@pytest.mark.parametrize(
    "extensions",
    [
        ASKING,
        named(NAME.encode()),
        ASKING + extension(0, struct.pack("!HBH", len(NAME) + 3, 1, len(NAME)) + NAME.encode()),
        ASKING + extension(0, struct.pack("!HBH", len(NAME) + 3, 0, len(NAME) - 1) + NAME.encode()),
        ASKING + extension(0, b""),
        ASKING + named(b""),
        OTHERS + OTHERS + ASKING + named(NAME.encode()),  # more than are looked at
    ],
)
def test_what_is_no_challenge_passes(loaded: Bench, extensions: bytes) -> None:
    assert not is_taken(loaded, record(extensions))


def test_what_has_come_of_a_handshake_is_taken_once_both_are_there(loaded: Bench) -> None:
    whole = record(named(NAME.encode()) + ASKING + extension(51, bytes(100)))
    enough = whole.index(ASKING) + len(ASKING)
    for length in range(1, len(whole), 5):
        assert is_taken(loaded, whole[:length]) == (length >= enough)
    assert is_taken(loaded, whole[:enough])


@given(data=st.data())
def test_whatever_else_a_handshake_holds_only_what_the_engine_would_answer_is_taken(
    data: st.DataObject, loaded: Bench
) -> None:
    parts = [named(NAME.encode()), ASKING, *(extension(kind, b"x" * kind) for kind in (5, 10, 43))]
    whole = bytearray(record(b"".join(data.draw(st.lists(st.sampled_from(parts), max_size=8)))))
    for _ in range(data.draw(st.integers(0, 2))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    payload = bytes(whole[: data.draw(st.integers(1, len(whole)))])
    try:
        found = read(payload)
    except Malformed:
        return
    if is_taken(loaded, payload):
        assert found.server_name == NAME.encode()
        assert found.protocols == (b"acme-tls/1",)
