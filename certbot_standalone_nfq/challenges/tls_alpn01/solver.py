"""TLS-ALPN-01 among other streams (RFC 8737, 3): which of them are handshakes for a pending name.

Only a ClientHello for exactly a pending name that asks for the protocol acme-tls/1 and no other is ours.
"""

from __future__ import annotations

import ipaddress
import ssl
import weakref
from collections.abc import Callable, Collection
from typing import ClassVar

from certbot_standalone_nfq.challenges.tls_alpn01.client_hello import (
    CLIENT_HELLO,
    HANDSHAKE,
    Malformed,
    read,
)
from certbot_standalone_nfq.challenges.tls_alpn01.context import PROTOCOL, context
from certbot_standalone_nfq.challenges.tls_alpn01.conversation import TlsConversation
from certbot_standalone_nfq.engine.protocols import (
    UNDECIDED,
    ChallengeId,
    Declined,
    Field,
    Recognition,
    Selector,
)

TYP = "tls-alpn-01"
MAX_CONVERSATIONS = 64
"""At a time: the names in public DNS are all that it takes to begin one."""
_PROTOCOLS = (PROTOCOL.encode(),)
_LISTED = bytes([len(PROTOCOL)]) + PROTOCOL.encode()
ONLY_PROTOCOL = (2 + len(_LISTED)).to_bytes(2, "big") + len(_LISTED).to_bytes(2, "big") + _LISTED
"""The extension's content, behind its type."""
_BEGINNING = (Field(0, bytes([HANDSHAKE, 3])), Field(5, bytes([CLIENT_HELLO])))
_UNRECOGNIZED_NAME = bytes([21, 3, 3, 0, 2, 2, 112])
"""A fatal alert in a record: RFC 8446, 6."""

MakeContext = Callable[[str, str], ssl.SSLContext]


class TlsAlpn01Solver:
    """The names to answer for. Look-ups cost the same however many there are."""

    typ: ClassVar[str] = TYP
    refusal: ClassVar[bytes] = _UNRECOGNIZED_NAME

    def __init__(self, make_context: MakeContext = context) -> None:
        self._make_context = make_context
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self._conversations: weakref.WeakSet[TlsConversation] = weakref.WeakSet()
        """Those whose connection the engine still keeps."""

    @staticmethod
    def selectors(port: int, keys: Collection[str] = ()) -> tuple[Selector, ...]:  # noqa: ARG004 - any name
        """Return what to capture on a port: a ClientHello that asks for the protocol, and no other, for any name."""
        return (Selector(port, (_BEGINNING,), contains=ONLY_PROTOCOL, by_server_name=True),)

    @staticmethod
    def key(name: str, token: str) -> str:  # noqa: ARG004 - the CA does not send it
        """Return the server name that the CA asks for: an address by its reverse name (RFC 8738, 6)."""
        try:
            return ipaddress.ip_address(name).reverse_pointer
        except ValueError:
            return name.lower()

    def add(self, key: str, key_authorization: str) -> None:
        """Answer for a server name. Raises ValueError if it is no name."""
        if not key.isascii() or not key:
            raise ValueError(f"not a server name: {key!r}")
        self._contexts[key.encode()] = self._make_context(_certified(key), key_authorization)

    def remove(self, key: str, key_authorization: str = "") -> None:  # noqa: ARG002 - a name has but one
        """Stop answering for a server name; one that is not there is no error."""
        self._contexts.pop(key.encode(), None)

    def pending_keys(self) -> list[bytes]:
        """Return the server names."""
        return list(self._contexts)

    def recognise(self, start: bytes) -> Recognition:
        """Say what a stream is that begins with these bytes."""
        if not self._contexts:
            return None
        try:
            hello = read(start)
        except Malformed:
            return None
        if hello.protocols not in (None, _PROTOCOLS):
            return None
        if hello.server_name is None:
            return UNDECIDED
        if hello.server_name not in self._contexts:
            return None
        return self._begin(hello.server_name) if hello.protocols else UNDECIDED

    def _begin(self, name: bytes) -> Recognition:
        if sum(not each.is_over for each in self._conversations) >= MAX_CONVERSATIONS:
            return Declined(f"more than {MAX_CONVERSATIONS} TLS handshakes for pending names at a time")
        conversation = TlsConversation(ChallengeId(TYP, name.decode()), self._contexts[name])
        self._conversations.add(conversation)
        return conversation

    @staticmethod
    def challenge_in(start: bytes) -> ChallengeId | None:
        """Return the challenge whose name a handshake is for, pending or not, or None if it is an ordinary one."""
        try:
            hello = read(start)
        except Malformed:
            return None
        if hello.protocols != _PROTOCOLS or not hello.server_name or not hello.server_name.isascii():
            return None
        return ChallengeId(TYP, hello.server_name.decode())

    @staticmethod
    def is_altered(start: bytes) -> bool:  # noqa: ARG004
        """Return False: nothing can be added to a handshake that is still for the same name and protocol."""
        return False


def _certified(key: str) -> str:
    """Return the name or address that a server name is for."""
    for suffix, separator, size in ((".in-addr.arpa", ".", 1), (".ip6.arpa", ":", 4)):
        if key.endswith(suffix):
            parts = key[: -len(suffix)].split(".")[::-1]
            groups = ["".join(parts[begin : begin + size]) for begin in range(0, len(parts), size)]
            return str(ipaddress.ip_address(separator.join(groups)))
    return key
