"""What the parts agree on: what to capture, who recognises a challenge, and who talks to the CA.

A capture knows selectors and packets, and no challenge. A solver knows one type of challenge, and no packet. The
engine stands between them.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Protocol, Union, runtime_checkable

from certbot_standalone_nfq.wire.proxy_protocol import without_header

SEARCHED = 512
"""Bytes of a payload in which `Selector.contains` is looked for."""
LONGEST_HEADER = 512
"""Bytes of a PROXY header behind which it is looked for; see `wire.proxy_protocol` for how long real ones are."""


class Transport(enum.IntEnum):
    """What carries a payload; the values are those of the IP header."""

    TCP = 6
    UDP = 17


@dataclass(frozen=True)
class Field:
    """Bytes that a payload must have at an offset from its beginning, compared under a mask of the same length."""

    offset: int
    value: bytes
    mask: bytes = b""
    """Empty: every bit counts."""

    def agrees_with(self, payload: bytes) -> bool:
        """Whether what a payload has of this field is as it must be. A payload that ends before it agrees."""
        there = payload[self.offset : self.offset + len(self.value)]
        mask = self.mask or b"\xff" * len(self.value)
        return all(byte & bits == wanted & bits for byte, wanted, bits in zip(there, self.value, mask))

    def is_in(self, payload: bytes) -> bool:
        """Whether a payload has the whole of this field, and it is as it must be."""
        return len(payload) >= self.offset + len(self.value) and self.agrees_with(payload)


@dataclass(frozen=True)
class Key:
    """Where a payload that a selector selects says which challenge it is for.

    A capture that can look keys up leaves payloads with another key to the server.
    """

    offset: int
    """Bytes from the payload's beginning, or from behind a PROXY header."""
    length: int
    """Bytes that decide. Behind them may be more of the challenge's, which is compared if it is there."""


@dataclass(frozen=True)
class Selector:
    """Which TCP segments or UDP datagrams to a port may be ours: the one description that every capture compiles.

    `matches` is the reference. A compiled selector may select more than it, and never less: what is selected is
    looked at again by the engine, and what is not selected is never seen.
    """

    port: int
    any_of: tuple[tuple[Field, ...], ...]
    """Alternatives; all fields of one of them must agree. A stream comes in pieces, so a short payload agrees as long
    as it lasts. A datagram is whole, and must have all of them."""
    after_proxy_header: bool = True
    """Whether a load balancer's PROXY header may come first; the fields are behind it then. A header that nothing
    follows is not selected: what follows it is, in a segment of its own. Only over TCP."""
    key: Key | None = None
    contains: bytes = b""
    """What the payload must have besides, whole, among its first SEARCHED bytes. A piece that ends before it is not
    selected, so this is for what comes early enough to be in the first segment."""
    by_server_name: bool = False
    """Whether the key is the server name in a TLS ClientHello, in lower case (RFC 6066, 3)."""
    by_question: bool = False
    """Whether the key is the name in a DNS question, in wire format and lower case (RFC 1035, 4.1.2)."""
    by_host: bool = False
    """Whether the key is the name in an HTTP request's Host field, in lower case and without a port."""
    transport: Transport = Transport.TCP

    def __post_init__(self) -> None:
        """Raise ValueError for a PROXY header over UDP."""
        if self.after_proxy_header and self.transport is Transport.UDP:
            raise ValueError("a datagram has no PROXY header")

    def matches(self, payload: bytes) -> bool:
        """Whether a payload must be selected."""
        if self.transport is Transport.UDP:
            return any(all(field.is_in(payload) for field in fields) for fields in self.any_of)
        rest = without_header(payload) if self.after_proxy_header else payload
        if not rest or (self.contains and not self._contains(rest, len(payload) - len(rest))):
            return False
        return any(all(field.agrees_with(rest) for field in fields) for fields in self.any_of)

    def _contains(self, rest: bytes, header: int) -> bool:
        return header <= LONGEST_HEADER and self.contains in rest[:SEARCHED]


class ChallengeId(NamedTuple):
    """What tells challenges apart."""

    typ: str
    """The type's name in ACME, such as http-01."""
    key: str
    """What a request of the CA names it by: for http-01, its token."""


class Question(NamedTuple):
    """What a datagram asks for."""

    challenge: ChallengeId
    kind: str
    """What about it: for dns-01, the type of records, such as TXT."""


@dataclass(frozen=True)
class Answer:
    """What a conversation answered."""

    challenge: ChallengeId
    forwarded_by: tuple[str, ...] = ()
    """What in the request only a proxy adds, in words, such as the names of headers."""
    name: str = ""
    """The name that it was asked under, if that decided."""


@dataclass(frozen=True)
class Output:
    """What follows from received bytes."""

    data: bytes = b""
    """To send, after what was to be sent before."""
    close: bool = False
    """Nothing more will be sent: close our side behind the data."""
    answer: Answer | None = None
    """The challenge that this output, with what was sent before, has answered."""


class Conversation(Protocol):
    """Our side of one connection's dialogue: bytes in, bytes out. It has no socket and no clock."""

    @property
    def seconds(self) -> float:
        """How long it may take, after which its connection is forgotten."""

    def receive(self, data: bytes, *, ended: bool) -> Output:
        """Take the next bytes of the peer's stream; `ended` says that no more will come. Raises nothing."""


class Undecided(enum.Enum):
    """The bytes may yet become a challenge: more are needed."""

    UNDECIDED = enum.auto()


UNDECIDED: Final = Undecided.UNDECIDED


@dataclass(frozen=True)
class Declined:
    """It is a challenge, but the server gets it."""

    reason: str
    """In words that complete 'There are ...'."""


Recognition = Union[Conversation, Undecided, Declined, None]
"""A conversation to have, or that more is needed, or that there will be none, or None: the server's business."""


class StreamSolver(Protocol):
    """One type of challenge that is answered over TCP. Look-ups cost the same however many challenges are pending."""

    typ: ClassVar[str]
    """The type's name in ACME, such as http-01."""
    refusal: ClassVar[bytes]
    """What to send, where no server does, to a client that asks for something else. May be empty."""

    @staticmethod
    def selectors(port: int, keys: Collection[str] = ()) -> Sequence[Selector]:
        """Return what to capture on a port, given keys that will be asked for, beside others of the usual form."""

    @staticmethod
    def key(name: str, token: str) -> str:
        """Return the key of a challenge, given the name or address to be certified, and the CA's token."""

    def add(self, key: str, key_authorization: str) -> None:
        """Answer a challenge from now on, given its key and its key authorization. Raises ValueError for a bad key."""

    def remove(self, key: str, key_authorization: str) -> None:
        """Stop answering; a challenge that is not there is no error. Conversations under way go on."""

    def pending_keys(self) -> Collection[bytes]:
        """Return what is found where the selectors' `key` begins, for each challenge that is pending."""

    def recognise(self, start: bytes) -> Recognition:
        """Say what a stream is that begins with these bytes. An empty start is undecided if anything is pending.

        A conversation is new with each call; these bytes are still to be given to it.
        """

    @staticmethod
    def challenge_in(start: bytes) -> ChallengeId | None:
        """Return the challenge that a stream asks for, pending or not, or None if it is not one."""

    @staticmethod
    def is_altered(start: bytes) -> bool:
        """Whether a stream that asks for a challenge has something added that no CA adds, and so is not answered."""


@runtime_checkable
class DatagramSolver(Protocol):
    """One type of challenge that is answered over UDP, too: each datagram is a whole question."""

    typ: ClassVar[str]
    """The type's name in ACME, such as dns-01."""

    def reply(self, message: bytes) -> Output | None:
        """Return what to send back for a datagram's payload, or None to leave it to the server. Raises nothing."""

    def refuse(self, message: bytes) -> bytes | None:
        """Return what to send back, where no server does, for a payload that has no reply. Raises nothing."""

    def refuse_stream(self, start: bytes) -> bytes:
        """Return the same for a stream that is none of ours. Raises nothing."""

    @staticmethod
    def question_in(message: bytes) -> Question | None:
        """Return what a datagram asks for, pending or not, or None if it is no question."""
