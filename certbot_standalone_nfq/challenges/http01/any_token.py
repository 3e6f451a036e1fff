"""HTTP-01 for any token of an account: the answer is the token and the account's thumbprint (RFC 8555, 8.1 and 8.3).

Which requests are ours, their Host field says. A machine that knows the thumbprint can so answer for others that share
its name, whichever of them asked the CA. Only the holder of the account's key gains by the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import ClassVar

from certbot_standalone_nfq.challenges.http01 import host
from certbot_standalone_nfq.challenges.http01.conversation import (
    MAX_HEAD,
    NOT_FOUND,
    TYP,
    Challenge,
    Http01Conversation,
    end_of_head,
    response,
)
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.engine.protocols import UNDECIDED, ChallengeId, Field, Recognition, Selector

MIN_TOKEN, MAX_TOKEN = 22, 128
"""Characters. 22 hold the 128 bits that a token has at least (RFC 8555, 8.3); no CA's token is as long as the bound."""
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
"""SHA-256 in base64url (RFC 7638 and RFC 8555, 8.1)."""
_TOKEN = re.compile(rb"[A-Za-z0-9_-]*")
_VERSIONS = (b" HTTP/1.1\r", b" HTTP/1.0\r", b" HTTP/1.1", b" HTTP/1.0")


class AnyTokenSolver:
    """The names to answer for, each with its account's thumbprint. Look-ups cost the same however many there are."""

    typ: ClassVar[str] = TYP
    refusal: ClassVar[bytes] = NOT_FOUND

    def __init__(self, is_claimed: Callable[[str], bool] = lambda _: False) -> None:
        """Leave the tokens alone that another run answers for."""
        self.decides_early = False
        """Whether not to wait for the end of a head: what brought a Host field is not the server's any more."""
        self._is_claimed = is_claimed
        self._thumbprints: dict[str, str] = {}

    @staticmethod
    def selectors(port: int, keys: Collection[str] = ()) -> tuple[Selector, ...]:  # noqa: ARG004 - any token
        """Return what to capture on a port: whatever begins like a challenge request, for names that are pending."""
        return (Selector(port, ((Field(0, REQUEST_PREFIX),),), by_host=True),)

    @staticmethod
    def key(name: str, token: str) -> str:  # noqa: ARG004 - any token
        """Return the name, as it is compared. Raises ValueError if it is none."""
        return host.normal(name)

    def add(self, key: str, key_authorization: str) -> None:
        """Answer for a name with a thumbprint, which is what a key authorization ends with. Raises ValueError."""
        if not THUMBPRINT.fullmatch(key_authorization):
            raise ValueError(f"not an account's thumbprint: {key_authorization!r}")
        self._thumbprints[host.normal(key)] = key_authorization

    def remove(self, key: str, key_authorization: str = "") -> None:  # noqa: ARG002 - a name has but one
        """Stop answering for a name; one that is not there is no error."""
        self._thumbprints.pop(key, None)

    def pending_keys(self) -> list[bytes]:
        """Return the names as they stand in a Host field, but for a port: addresses of IPv6 behind a bracket."""
        return [f"[{name}".encode() if ":" in name else name.encode() for name in self._thumbprints]

    def recognise(self, start: bytes) -> Recognition:
        """Say what a stream is that begins with these bytes.

        Another name's request is left alone as soon as its Host field is there. One of ours is decided on at the end of
        its head, as a second Host field may follow, with which it is invalid (RFC 9112, 3.2).
        """
        if not self._thumbprints:
            return None
        if len(start) <= len(REQUEST_PREFIX):
            return UNDECIDED if REQUEST_PREFIX.startswith(start) else None
        line, newline, _ = start.partition(b"\n")
        token = _token_in(line, whole=bool(newline))
        if token is None:
            return None
        return self._recognise_by_host(token.decode(), start) if newline else UNDECIDED

    @staticmethod
    def challenge_in(start: bytes) -> ChallengeId | None:
        """Return the challenge whose token a request asks for, under whatever name, or None if it asks for none."""
        return Http01Solver.challenge_in(start)

    @staticmethod
    def is_altered(start: bytes) -> bool:
        """Whether something stands behind the token of a challenge request that no CA puts there."""
        return Http01Solver.is_altered(start)

    def _recognise_by_host(self, token: str, start: bytes) -> Recognition:
        end = end_of_head(start[:MAX_HEAD])
        found = host.hosts(start[: end or start.rfind(b"\n") + 1])
        if found is None or len(found) > 1:
            return None
        name = host.named(found[0]) if found else None
        if found and name not in self._thumbprints:
            return None
        if end is None and not (name and self.decides_early):
            return UNDECIDED if len(start) < MAX_HEAD else None
        return self._begin(name, token) if name and not self._is_claimed(token) else None

    def _begin(self, name: str, token: str) -> Http01Conversation:
        answer = response(f"{token}.{self._thumbprints[name]}".encode())
        return Http01Conversation(Challenge(token, REQUEST_PREFIX + token.encode() + b" ", answer, name))


def _token_in(line: bytes, *, whole: bool) -> bytes | None:
    """Return the token in a request's line, or in what there is of one, or None if the request is for none."""
    if not line.startswith(REQUEST_PREFIX):
        return None
    token = _TOKEN.match(line, len(REQUEST_PREFIX))
    assert token  # it may be empty
    rest = line[token.end() :]
    length = len(token.group())
    if length > MAX_TOKEN or ((whole or rest) and length < MIN_TOKEN):
        return None
    ends = rest in _VERSIONS if whole else any(version.startswith(rest) for version in _VERSIONS)
    return token.group() if ends else None
