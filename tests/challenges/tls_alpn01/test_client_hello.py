"""The parser before any real client's bytes, all of them and as far as they have come, and before anybody else's."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.tls_alpn01.client_hello import ClientHello, Malformed, read
from lab.tls import ACME, HELLOS, MANY, VISITOR, client_hello

PROTOCOLS = tuple(name.encode() for name in ACME)
REAL = {
    "go1.19": (b"example.com", 276),
    "go1.26": (b"2.100.51.198.in-addr.arpa", 1534),
}


SERVER_NAME = b"\0\0" + b"\0\x10" + b"\0\x0e" + b"\0" + b"\0\x0bexample.com"
ALPN = b"\0\x10" + b"\0\x0d" + b"\0\x0b" + b"\x0aacme-tls/1"
BEYOND_ITS_END = b"\0\x2b" + b"\xff\xff"


def after_shrinking(hello: bytes, extensions: bytes | None = None) -> bytes:
    """Return a ClientHello without extensions, as a client from before TLS 1.2 may send it, or with these."""
    body = hello[9 : 9 + 2 + 32] + b"\0" + b"\0\2\0\x2f" + b"\1\0"
    if extensions is not None:
        body += len(extensions).to_bytes(2, "big") + extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("name", REAL)
def test_gos_clients_are_understood(name: str) -> None:
    hello = (HELLOS / name).read_bytes()
    server_name, length = REAL[name]
    assert len(hello) == length
    assert read(hello) == ClientHello(server_name, PROTOCOLS)


@pytest.mark.parametrize("name", REAL)
def test_what_has_come_is_read_and_what_has_not_is_awaited(name: str) -> None:
    hello = (HELLOS / name).read_bytes()
    whole = read(hello)
    states = [read(hello[:length]) for length in range(len(hello) + 1)]
    assert {state.server_name for state in states} == {None, whole.server_name}
    assert {state.protocols for state in states} == {None, whole.protocols}
    known = [(state.server_name is not None, state.protocols is not None) for state in states]
    assert known == sorted(known)
    assert states[0] == ClientHello(None, None)


@pytest.mark.parametrize("protocols", [VISITOR, MANY, (*ACME, "h2")])
def test_a_visitors_protocols_are_read(protocols: tuple[str, ...]) -> None:
    hello = client_hello("WWW.example.com", protocols)
    assert read(hello) == ClientHello(b"www.example.com", tuple(name.encode() for name in protocols))


def test_what_is_missing_is_known_to_be_missing_once_all_has_come() -> None:
    hello = after_shrinking(client_hello("example.com"))
    assert read(hello) == ClientHello(b"", ())
    assert read(hello[:-1]) == ClientHello(None, None)


@pytest.mark.parametrize("both", [SERVER_NAME + ALPN, ALPN + SERVER_NAME], ids=["name first", "protocol first"])
def test_name_and_protocol_come_in_any_order_and_nothing_behind_them_is_looked_at(both: bytes) -> None:
    hello = client_hello("example.com")
    for extensions in (both, BEYOND_ITS_END[:2] + b"\0\0" + both, both + BEYOND_ITS_END):
        assert read(after_shrinking(hello, extensions)) == ClientHello(b"example.com", PROTOCOLS)
    with pytest.raises(Malformed):
        read(after_shrinking(hello, BEYOND_ITS_END + both))


@pytest.mark.parametrize("one", [SERVER_NAME, ALPN, BEYOND_ITS_END[:2] + b"\0\0"], ids=["name", "protocol", "any"])
def test_there_is_one_extension_of_a_type(one: bytes) -> None:
    """RFC 8446, 4.2. Of two, programs in the kernel may take the other."""
    with pytest.raises(Malformed):
        read(after_shrinking(client_hello("example.com"), one + one + SERVER_NAME + ALPN))


@pytest.mark.parametrize("extension", [SERVER_NAME, ALPN], ids=["name", "protocol"])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_an_extension_is_exactly_one_list(extension: bytes, wrong: int) -> None:
    changed = extension[:5] + bytes([extension[5] + wrong]) + extension[6:]
    with pytest.raises(Malformed):
        read(after_shrinking(client_hello("example.com"), changed))


def test_a_record_is_as_long_as_tls_allows() -> None:
    """RFC 8446, 5.1."""
    assert read(b"\x16\x03\x01\x40\x00") == ClientHello(None, None)


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\0\2\2\x28",
        b"\x16\x02\x01",
        b"\x16\x03\x01\0\x20\x02",
        b"\x16\x03\x01\x40\x01",  # a record that is too long
        b"\x16\x03\x01\0\x04\x01\0\0\x01",  # a message that is longer than its record
    ],
)
def test_what_is_no_client_hello_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(Malformed):
        read(start)


@pytest.mark.parametrize("place", [0, 1, 5])
def test_each_number_that_tells_a_client_hello_must_be_right(place: int) -> None:
    hello = bytearray(client_hello("example.com"))
    hello[place] += 1
    for length in (place + 1, len(hello)):
        with pytest.raises(Malformed):
            read(bytes(hello[:length]))


@pytest.mark.parametrize("length_of", ["suites", "extensions", "first extension"])
def test_a_length_that_reaches_beyond_what_holds_it_is_refused(length_of: str) -> None:
    hello = bytearray(client_hello("example.com"))
    suites = 44 + hello[43]
    extensions = suites + 2 + int.from_bytes(hello[suites : suites + 2], "big") + 2
    places = {"suites": suites, "extensions": extensions, "first extension": extensions + 4}
    hello[places[length_of]] = 0xFF
    with pytest.raises(Malformed):
        read(bytes(hello))


@given(data=st.data(), name=st.sampled_from(sorted(REAL)))
def test_nothing_but_its_own_exception_is_raised_whatever_is_changed(data: st.DataObject, name: str) -> None:
    hello = bytearray((HELLOS / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        hello[data.draw(st.integers(0, 300 if len(hello) > 300 else len(hello) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(hello)))
    try:
        found = read(bytes(hello[:end]) + data.draw(st.binary(max_size=9)))
    except Malformed:
        return
    assert isinstance(found, ClientHello)


@given(start=st.binary(max_size=200))
def test_no_bytes_trouble_it(start: bytes) -> None:
    for beginning in (b"", b"\x16\x03\x01\0\xc8\x01"):
        with contextlib.suppress(Malformed):
            read(beginning + start)
