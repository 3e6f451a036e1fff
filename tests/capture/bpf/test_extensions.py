"""The walk through a ClientHello's extensions, by an interpreter and by the kernel, beside the parser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from certbot_standalone_nfq.capture import tap
from certbot_standalone_nfq.capture.bpf.assembler import assemble
from certbot_standalone_nfq.capture.bpf.extensions import MOST_EXTENSIONS
from certbot_standalone_nfq.challenges.tls_alpn01.client_hello import ALPN
from certbot_standalone_nfq.challenges.tls_alpn01.solver import ONLY_PROTOCOL, TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import Field, Selector
from lab.tls import ACME, HELLOS, MANY, VISITOR, TlsClient, client_context
from tests.capture.bpf.interpreter import KernelFilter, execute, kernel_filter

pytestmark = pytest.mark.anywhere
SELECTORS = TlsAlpn01Solver.selectors(443)
Extension = tuple[int, bytes]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelFilter]:
    with kernel_filter() as opened:
        opened.attach(assemble(tap.program(SELECTORS, replies=False)))
        yield opened


def is_shown(kernel: KernelFilter, payload: bytes) -> bool:
    packet = bytes(IP(src="192.0.2.1", proto=6) / TCP(dport=443, flags="PA") / payload)
    accepted = bool(execute(assemble(tap.program(SELECTORS, replies=False)), packet)[0])
    assert kernel.accepts(packet) == accepted
    return accepted


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def client_hello(before: bytes, extensions: list[Extension]) -> bytes:
    """Return a record, given what comes before the extensions in the message."""
    listed = b"".join(kind.to_bytes(2, "big") + vector(2, content) for kind, content in extensions)
    return b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, before + vector(2, listed)))


OTHERS = st.tuples(st.integers(0, 0xFFFF).filter(lambda kind: kind != ALPN), st.binary(max_size=40))
PROTOCOLS = st.one_of(st.just(ONLY_PROTOCOL[2:]), st.just(b"\0\x0c\x02h2\x08http/1.1"), st.binary(max_size=20))


@st.composite
def beginnings(draw: st.DrawFn) -> bytes:
    """Draw what comes before the extensions."""
    sizes = ((1, 32), (2, 80), (1, 4))
    vectors = [vector(size, draw(st.binary(max_size=longest))) for size, longest in sizes]
    return b"\x03\x03" + bytes(32) + b"".join(vectors)


@given(
    data=st.data(),
    before=beginnings(),
    first=st.lists(OTHERS, max_size=MOST_EXTENSIONS + 2),
    protocols=PROTOCOLS,
    last=st.lists(OTHERS, max_size=3),
)
def test_a_client_hello_is_shown_if_it_asks_for_the_protocol_among_the_first_extensions(
    kernel: KernelFilter,
    data: st.DataObject,
    before: bytes,
    first: list[Extension],
    protocols: bytes,
    last: list[Extension],
) -> None:
    whole = client_hello(before, [*first, (ALPN, protocols), *last])
    needed = whole.index(protocols, len(client_hello(before, first))) + len(protocols)
    payload = whole[: data.draw(st.integers(needed - 3, len(whole)))]
    asked = protocols == ONLY_PROTOCOL[2:] and len(first) < MOST_EXTENSIONS
    assert is_shown(kernel, payload) == (asked and len(payload) >= needed)


@given(payload=st.binary(max_size=700), real=st.booleans())
def test_what_only_begins_like_a_client_hello_troubles_nobody(kernel: KernelFilter, payload: bytes, real: bool) -> None:
    assert not is_shown(kernel, b"\x16\x03\x01\x02\0\x01" + payload if real else payload)


@pytest.mark.parametrize("protocols", [VISITOR, MANY, (*ACME, *VISITOR), (*VISITOR, *ACME)])
def test_handshakes_of_visitors_are_not_shown(kernel: KernelFilter, protocols: tuple[str, ...]) -> None:
    assert not is_shown(kernel, TlsClient("example.com", client_context(protocols)).hear())


def test_handshakes_of_validators_are_shown(kernel: KernelFilter) -> None:
    for path in sorted(HELLOS.iterdir()):
        assert is_shown(kernel, path.read_bytes()), path
    assert is_shown(kernel, TlsClient("example.com").hear())


def test_only_in_a_client_hello_something_is_looked_for() -> None:
    plain = Selector(443, ((Field(0, b"x"),),), contains=b"y")
    with pytest.raises(ValueError, match="only in a ClientHello"):
        tap.program([plain], replies=False)
    with pytest.raises(ValueError, match="one thing only"):
        tap.program([*SELECTORS, Selector(443, plain.any_of, contains=b"z", by_server_name=True)], replies=False)
