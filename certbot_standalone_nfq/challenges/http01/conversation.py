"""The HTTP dialogue of http-01 (RFC 8555, 8.3): one request's head, one response, and the close."""

from __future__ import annotations

import re
from dataclasses import dataclass

from certbot_standalone_nfq.engine.protocols import Answer, ChallengeId, Output

TYP = "http-01"
MAX_HEAD = 16384
"""Bytes of a request's head after which it is answered, whole or not; no more are kept."""
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
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


@dataclass(frozen=True)
class Challenge:
    """A pending token, how a request for it begins, and the response."""

    token: str
    request: bytes
    response: bytes
    name: str = ""
    """The name that it is asked under, if that decides."""


class Http01Conversation:
    """Answers one request, which was recognised by its beginning and may turn out to be for another token."""

    seconds = 120.0

    def __init__(self, *challenges: Challenge) -> None:
        """Begin with those that it may be for."""
        self._challenges = challenges
        self._head = b""
        self._answered = False

    def receive(self, data: bytes, *, ended: bool) -> Output:
        """Take the next bytes of the request; answer as soon as nothing more is to be waited for."""
        if self._answered:
            return Output()
        self._head = (self._head + data)[:MAX_HEAD]
        self._answered = ended or len(self._head) == MAX_HEAD or has_whole_head(self._head)
        return self._answer() if self._answered else Output()

    def _answer(self) -> Output:
        head, self._head = self._head, b""
        challenges, self._challenges = self._challenges, ()  # the connection is kept for a while, and many are
        challenge = next((each for each in challenges if head.startswith(each.request)), None)
        if challenge is None:
            return Output(NOT_FOUND, close=True)
        return Output(challenge.response, close=True, answer=_answer(challenge, head))


def _answer(challenge: Challenge, head: bytes) -> Answer:
    return Answer(ChallengeId(TYP, challenge.token), forwarded_by(head), challenge.name)


def has_whole_head(received: bytes) -> bool:
    """Whether the empty line that ends a request's head has come (RFC 9112, 2.1 and 2.2)."""
    return end_of_head(received) is not None


def end_of_head(received: bytes) -> int | None:
    """Return the length of a request's head with its empty line, or None while that line is missing."""
    found = _END_OF_HEAD.search(received)
    return found.end() if found else None


def forwarded_by(head: bytes) -> tuple[str, ...]:
    """Return the names of a request's headers that only a proxy adds, in order and in lower case."""
    names = (line.partition(b":")[0].strip().lower() for line in head.split(b"\n")[1:])
    return tuple(name.decode() for name in dict.fromkeys(names) if name in _FORWARDING)


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
