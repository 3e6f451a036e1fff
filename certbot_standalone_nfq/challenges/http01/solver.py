"""HTTP-01 among other streams (RFC 8555, 8.3): which of them are requests for a pending token.

Only a GET for exactly a pending token is ours. The Host, the User-Agent and the source say nothing: a CA may ask for
any name, from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import ClassVar

from certbot_standalone_nfq.challenges.http01.conversation import (
    NOT_FOUND,
    TYP,
    Challenge,
    Http01Conversation,
    response,
)
from certbot_standalone_nfq.engine.protocols import UNDECIDED, ChallengeId, Field, Key, Recognition, Selector

REQUEST_PREFIX = b"GET /.well-known/acme-challenge/"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]*")
_AFTER_TOKEN = b" HTTP/1."
ENOUGH = 11
"""Characters of a token that decide: 66 bits. Nothing is told of fewer, and of more only whether all are right.

Whoever sends a request in pieces can tell by the time to the answer, and by who gives it, what became of each piece.
"""


class Http01Solver:
    """The tokens to answer for. Look-ups cost the same however many there are.

    If an exception interrupts `add` or `remove`, no other token is affected, and either can be called again.
    """

    typ: ClassVar[str] = TYP
    refusal: ClassVar[bytes] = NOT_FOUND

    def __init__(self) -> None:
        self._challenges: dict[bytes, Challenge] = {}
        self._by_beginning: dict[bytes, set[bytes]] = {}
        """Tokens by their first ENOUGH characters."""

    @staticmethod
    def selectors(port: int, keys: Collection[str] = ()) -> tuple[Selector, ...]:  # noqa: ARG004 - any token
        """Return what to capture on a port: whatever begins like a challenge request, for any token."""
        return (Selector(port, ((Field(0, REQUEST_PREFIX),),), key=Key(len(REQUEST_PREFIX), ENOUGH)),)

    @staticmethod
    def key(name: str, token: str) -> str:  # noqa: ARG004 - whatever name it is for
        """Return the token: the CA asks for it."""
        return token

    def add(self, key: str, key_authorization: str) -> None:
        """Answer for a token with its key authorization. Raises ValueError if it is no base64url text."""
        name = key.encode()
        if not name or not _TOKEN.fullmatch(name):
            raise ValueError(f"not a challenge token: {key!r}")
        self._challenges[name] = Challenge(key, REQUEST_PREFIX + name + b" ", response(key_authorization.encode()))
        self._by_beginning.setdefault(name[:ENOUGH], set()).add(name)

    def remove(self, key: str, key_authorization: str = "") -> None:  # noqa: ARG002 - a token has but one
        """Stop answering for a token; one that is not there is no error."""
        name = key.encode()
        alike = self._by_beginning.get(name[:ENOUGH], set())
        alike.discard(name)
        if not alike:
            self._by_beginning.pop(name[:ENOUGH], None)
        self._challenges.pop(name, None)

    def pending_keys(self) -> list[bytes]:
        """Return the tokens, with what must follow them."""
        return [token + _AFTER_TOKEN for token in self._challenges]

    def recognise(self, start: bytes) -> Recognition:
        """Say what a stream is that begins with these bytes."""
        if not self._challenges:
            return None
        if len(start) <= len(REQUEST_PREFIX):
            return UNDECIDED if REQUEST_PREFIX.startswith(start) else None
        if not start.startswith(REQUEST_PREFIX):
            return None
        token = _token_in(start)
        rest = start[len(REQUEST_PREFIX) + len(token) :][: len(_AFTER_TOKEN)]
        if not rest:
            return self._recognise_beginning(token)
        if token in self._challenges and _AFTER_TOKEN.startswith(rest):
            return Http01Conversation(self._challenges[token])
        return None

    @staticmethod
    def challenge_in(start: bytes) -> ChallengeId | None:
        """Return the challenge whose token a request asks for, pending or not, or None if it asks for none."""
        return ChallengeId(TYP, _token_in(start).decode()) if start.startswith(REQUEST_PREFIX) else None

    @staticmethod
    def is_altered(start: bytes) -> bool:
        """Whether something stands behind the token of a challenge request, such as a query, that no CA puts there."""
        rest = start[len(REQUEST_PREFIX) + len(_token_in(start)) :][: len(_AFTER_TOKEN)]
        return start.startswith(REQUEST_PREFIX) and not _AFTER_TOKEN.startswith(rest)

    def _recognise_beginning(self, beginning: bytes) -> Recognition:
        """Say what it is before the token's end has arrived: its first characters decide, once all of them are there.

        Tokens that share them are told apart by the conversation, which compares the whole.
        """
        if len(beginning) < ENOUGH:
            return UNDECIDED
        alike = [self._challenges[name] for name in self._by_beginning.get(beginning[:ENOUGH], ())]
        return Http01Conversation(*alike) if alike else None


def _token_in(request: bytes) -> bytes:
    """Return what stands where the token does, in a request that begins like a challenge's."""
    match = _TOKEN.match(request, len(REQUEST_PREFIX))
    return match.group() if match else b""
