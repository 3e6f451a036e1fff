"""HTTP-01 on the wire (RFC 8555, 8.3): telling the authority's request, and writing the answer.

Only a GET for exactly a pending token is ours. The Host, the User-Agent and the source say nothing: an
authority may ask for any name, from anywhere.
"""

from __future__ import annotations

import collections
import enum
import re
from dataclasses import dataclass

from certbot_standalone_nfq.engine.protocols import Field, Selector

REQUEST_PREFIX = b"GET /.well-known/acme-challenge/"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]*")
_AFTER_TOKEN = b" HTTP/1."
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
ENOUGH = 11
"""Characters of a token that tell it from everybody else's: 66 bits."""
_FORWARDING = frozenset(
    {
        b"cf-connecting-ip",
        b"cf-ray",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-amz-cf-id",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-real-ip",
        b"x-varnish",
    }
)
"""Headers that proxies add: RFC 7239, RFC 9110 7.6.3, and the habits of common ones. Validators send none."""


class Finding(enum.Enum):
    """What the first octets of a request are."""

    UNRELATED = enum.auto()
    BEGINNING = enum.auto()
    """They may yet become a request for a pending token."""
    CHALLENGE = enum.auto()
    """They are a request for a pending token, its head perhaps not complete."""


@dataclass(frozen=True)
class Challenge:
    """A pending token and what to answer for it."""

    token: str
    answer: bytes

    def respond(self, head: bytes) -> bytes:
        """Return the response to a request's head, which may turn out to be for a token that just begins alike."""
        return self.answer if head.startswith(REQUEST_PREFIX + self.token.encode() + b" ") else _NOT_FOUND


@dataclass(frozen=True)
class Recognition:
    """A finding, and what is asked for if it is a challenge."""

    finding: Finding
    challenge: Challenge | None = None


_UNRELATED = Recognition(Finding.UNRELATED)
_BEGINNING = Recognition(Finding.BEGINNING)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Http01Solver:
    """The tokens to answer for and their key authorizations. Look-ups cost the same however many there are."""

    typ = "http-01"

    def __init__(self) -> None:
        self._challenges: dict[bytes, Challenge] = {}
        self._short_beginnings: collections.Counter[bytes] = collections.Counter()
        self._by_beginning: dict[bytes, list[bytes]] = {}

    @staticmethod
    def selectors(port: int) -> tuple[Selector, ...]:
        """Return what to capture on a port: whatever begins like a challenge request, for any token."""
        return (Selector(port, ((Field(0, REQUEST_PREFIX),),)),)

    def __len__(self) -> int:
        return len(self._challenges)

    def add(self, token: str, key_authorization: str) -> None:
        """Answer for a token from now on. Raises ValueError if it is no base64url text (RFC 8555, 8.3)."""
        name = token.encode()
        if not name or not _TOKEN.fullmatch(name):
            raise ValueError(f"not a challenge token: {token!r}")
        self.remove(token)
        self._challenges[name] = Challenge(token, response(key_authorization.encode()))
        self._short_beginnings.update(_short_beginnings(name))
        self._by_beginning.setdefault(name[:ENOUGH], []).append(name)

    def remove(self, token: str) -> None:
        """Stop answering for a token; one that is not there is no error."""
        name = token.encode()
        if self._challenges.pop(name, None) is None:
            return
        self._short_beginnings.subtract(_short_beginnings(name))
        self._short_beginnings += collections.Counter()  # drops the zero counts
        alike = self._by_beginning[name[:ENOUGH]]
        alike.remove(name)
        if not alike:
            del self._by_beginning[name[:ENOUGH]]

    def recognise(self, received: bytes) -> Recognition:
        """Say what a request is that begins with these octets."""
        if not self._challenges:
            return _UNRELATED
        if len(received) <= len(REQUEST_PREFIX):
            return _BEGINNING if REQUEST_PREFIX.startswith(received) else _UNRELATED
        if not received.startswith(REQUEST_PREFIX):
            return _UNRELATED
        match = _TOKEN.match(received, len(REQUEST_PREFIX))
        token = match.group() if match else b""
        rest = received[len(REQUEST_PREFIX) + len(token) :][: len(_AFTER_TOKEN)]
        if not rest:
            return self._recognise_beginning(token)
        if token in self._challenges and _AFTER_TOKEN.startswith(rest):
            return Recognition(Finding.CHALLENGE, self._challenges[token])
        return _UNRELATED

    @staticmethod
    def challenge_in(start: bytes) -> str | None:
        """Return the token that a request asks for, pending or not, or None if it is not a challenge request."""
        if not start.startswith(REQUEST_PREFIX):
            return None
        match = _TOKEN.match(start, len(REQUEST_PREFIX))
        return match.group().decode() if match else ""

    def _recognise_beginning(self, beginning: bytes) -> Recognition:
        """Say what it is while a token's end has not come: decided, if there is enough to tell it from others."""
        if len(beginning) < ENOUGH:
            return _BEGINNING if beginning in self._short_beginnings else _UNRELATED
        alike = [name for name in self._by_beginning.get(beginning[:ENOUGH], ()) if name.startswith(beginning)]
        if len(alike) == 1:
            return Recognition(Finding.CHALLENGE, self._challenges[alike[0]])
        return _BEGINNING if alike else _UNRELATED


def _short_beginnings(token: bytes) -> list[bytes]:
    return [token[:length] for length in range(1, min(len(token) + 1, ENOUGH))]


def forwarded_by(head: bytes) -> tuple[str, ...]:
    """Return the names of a request's headers that only a proxy adds, in order and in lower case."""
    names = (line.partition(b":")[0].strip().lower() for line in head.split(b"\n")[1:])
    return tuple(name.decode() for name in dict.fromkeys(names) if name in _FORWARDING)


def has_whole_head(received: bytes) -> bool:
    """Tell whether the empty line that ends a request's head has come (RFC 9112, 2.1 and 2.2)."""
    return _END_OF_HEAD.search(received) is not None


def response(key_authorization: bytes) -> bytes:
    """Return the whole answer to a challenge: validators take nothing but a 200 and the exact body.

    `Connection: close` and the length tell a validator that keeps connections to open a new one for its next
    request.
    """
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Content-Length: {len(key_authorization)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return head.encode() + key_authorization
