"""HTTP-01 on the wire (RFC 8555, 8.3): telling the authority's request, and writing the answer.

Only a GET for exactly a pending token is ours. The Host, the User-Agent and the source say nothing: an
authority may ask for any name, from anywhere.
"""

from __future__ import annotations

import collections
import enum
import re
from dataclasses import dataclass

REQUEST_PREFIX = b"GET /.well-known/acme-challenge/"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]*")
_AFTER_TOKEN = b" HTTP/1."
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class Finding(enum.Enum):
    """What the first octets of a request are."""

    UNRELATED = enum.auto()
    BEGINNING = enum.auto()
    """They may yet become a request for a pending token."""
    CHALLENGE = enum.auto()
    """They are a request for a pending token, its head perhaps not complete."""


@dataclass(frozen=True)
class Recognition:
    """A finding, and the token for a challenge."""

    finding: Finding
    token: str = ""


_UNRELATED = Recognition(Finding.UNRELATED)
_BEGINNING = Recognition(Finding.BEGINNING)


class PendingChallenges:
    """The tokens to answer for and their key authorizations. Look-ups cost the same however many there are."""

    def __init__(self) -> None:
        self._answers: dict[bytes, bytes] = {}
        self._beginnings: collections.Counter[bytes] = collections.Counter()

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, token: str, key_authorization: str) -> None:
        """Answer for a token from now on. Raises ValueError if it is no base64url text (RFC 8555, 8.3)."""
        name = token.encode()
        if not name or not _TOKEN.fullmatch(name):
            raise ValueError(f"not a challenge token: {token!r}")
        if name not in self._answers:
            self._beginnings.update(_beginnings(name))
        self._answers[name] = response(key_authorization.encode())

    def discard(self, token: str) -> None:
        """Stop answering for a token; one that is not there is no error."""
        name = token.encode()
        if self._answers.pop(name, None) is None:
            return
        self._beginnings.subtract(_beginnings(name))
        self._beginnings += collections.Counter()  # drops the zero counts

    def answer(self, token: str) -> bytes:
        """Return the whole response for a pending token. Raises KeyError for any other."""
        return self._answers[token.encode()]

    def recognise(self, received: bytes) -> Recognition:
        """Say what a request is that begins with these octets."""
        if not self._answers:
            return _UNRELATED
        if len(received) <= len(REQUEST_PREFIX):
            return _BEGINNING if REQUEST_PREFIX.startswith(received) else _UNRELATED
        if not received.startswith(REQUEST_PREFIX):
            return _UNRELATED
        match = _TOKEN.match(received, len(REQUEST_PREFIX))
        token = match.group() if match else b""
        rest = received[len(REQUEST_PREFIX) + len(token) :][: len(_AFTER_TOKEN)]
        if not rest:
            return _BEGINNING if token in self._beginnings or token in self._answers else _UNRELATED
        if token in self._answers and _AFTER_TOKEN.startswith(rest):
            return Recognition(Finding.CHALLENGE, token.decode())
        return _UNRELATED


def _beginnings(token: bytes) -> list[bytes]:
    return [token[:length] for length in range(1, len(token))]


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
