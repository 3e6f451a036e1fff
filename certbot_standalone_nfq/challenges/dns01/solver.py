"""DNS-01 among other queries (RFC 8555, 8.4): which of them are for a name with a pending challenge.

All types of records at such a name are answered: resolvers that minimise what they ask (RFC 9156) begin with another
one, and the server says that the name does not exist. DS alone is the parent zone's business (RFC 4035, 3.1.4.1), and
so the server's. The case of letters is the client's, and is kept.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from typing import ClassVar

from certbot_standalone_nfq.challenges.dns01 import response
from certbot_standalone_nfq.challenges.dns01.conversation import (
    LENGTH,
    MAX_MESSAGE,
    Dns01Conversation,
    first_message,
    framed,
    length_of_first,
)
from certbot_standalone_nfq.challenges.dns01.query import (
    HEADER,
    Query,
    Type,
    parents,
    parse,
    to_text,
    to_wire,
    type_name,
)
from certbot_standalone_nfq.engine.protocols import (
    UNDECIDED,
    Answer,
    ChallengeId,
    Field,
    Output,
    Question,
    Recognition,
    Selector,
    Transport,
)

TYP = "dns-01"
LABEL = "_acme-challenge"
_FIRST_LABEL = to_wire(LABEL)[:-1]
_QUERY = (Field(2, b"\0", b"\xf8"), Field(4, b"\0\1"))
"""What a query is told by: neither a response nor of another kind, and with one question."""
_IGNORING_CASE = 0xDF
_MAX_SELECTED = 40
"""Bytes of an exact name that are selected by: xt_bpf takes no longer programs."""


class Dns01Solver:
    """The names to answer for, with their values. Look-ups cost the same however many there are.

    If an exception interrupts `add` or `remove`, no other name is affected, and either can be called again.
    """

    typ: ClassVar[str] = TYP
    refusal: ClassVar[bytes] = b""

    def __init__(self) -> None:
        self._values: dict[bytes, tuple[bytes, ...]] = {}

    @staticmethod
    def selectors(port: int, keys: Collection[str] = ()) -> tuple[Selector, ...]:
        """Return what to capture on a port: queries for any name that begins with the label, and for other keys."""
        others = (to_wire(key)[:_MAX_SELECTED] for key in keys if not key.startswith(f"{LABEL}."))
        names = dict.fromkeys([_FIRST_LABEL, *others])
        return tuple(_selector(port, transport, name) for name in names for transport in Transport)

    @staticmethod
    def key(name: str, token: str) -> str:  # noqa: ARG004 - the CA asks for a name
        """Return the name that the CA asks for, given the one to be certified."""
        return f"{LABEL}.{name}".lower()

    def add(self, key: str, key_authorization: str) -> None:
        """Answer queries for a name with one more value. Raises ValueError if it can be no name."""
        name = to_wire(key)
        self._values[name] = tuple(dict.fromkeys((*self._values.get(name, ()), value(key_authorization))))

    def remove(self, key: str, key_authorization: str) -> None:
        """Stop answering with a value; one that is not there is no error."""
        name = to_wire(key)
        left = tuple(each for each in self._values.get(name, ()) if each != value(key_authorization))
        if left:
            self._values[name] = left
        else:
            self._values.pop(name, None)

    def pending_keys(self) -> list[bytes]:
        """Return the names, as questions have them."""
        return list(self._values)

    def reply(self, message: bytes) -> Output | None:
        """Return the response to a datagram, or None if it is the server's."""
        query = self._parse(message)
        return self._answer(query, response.limit_over_udp(query)) if query else None

    def recognise(self, start: bytes) -> Recognition:
        """Say what a stream is that begins with these bytes."""
        if not self._values:
            return None
        if len(start) < LENGTH:
            return UNDECIDED
        length = length_of_first(start)
        if not HEADER < length <= MAX_MESSAGE:
            return None
        message = first_message(start)
        if len(message) < length:
            return UNDECIDED if _may_begin_query(message) else None
        return Dns01Conversation(self._reply_over_tcp) if self._parse(message) else None

    def refuse(self, message: bytes) -> bytes | None:
        """Return the response to a query that is not answered, where no server does; None if it is no query.

        Names above pending ones exist: a resolver that minimises what it asks must not take them for missing.
        """
        query = parse(message)
        if query is None:
            return None
        if any(query.name in parents(name) for name in self._values):
            return response.without_records(query)
        return response.refusal(query)

    def refuse_stream(self, start: bytes) -> bytes:
        """Return the same for a stream that begins with a query."""
        refused = self.refuse(first_message(start)) if len(start) >= LENGTH else None
        return framed(refused) if refused else b""

    @staticmethod
    def challenge_in(start: bytes) -> ChallengeId | None:
        """Return the challenge that a stream asks for, pending or not, or None if it asks for none."""
        return challenge_in(first_message(start))

    @staticmethod
    def question_in(message: bytes) -> Question | None:
        """Return what a datagram asks for, for whichever name, or None if it is no query."""
        query = parse(message)
        if query is None:
            return None
        return Question(ChallengeId(TYP, to_text(query.name)), type_name(query.typ))

    @staticmethod
    def is_altered(start: bytes) -> bool:  # noqa: ARG004 - nothing can be added to a query
        """Return False: a query is answered whatever comes with it."""
        return False

    def _reply_over_tcp(self, message: bytes) -> Output | None:
        query = self._parse(message)
        return self._answer(query, response.OVER_TCP) if query else None

    def _parse(self, message: bytes) -> Query | None:
        """Return the query in a message if it is to be answered here."""
        query = parse(message)
        if query is None or query.name not in self._values or query.typ == Type.DS:
            return None
        of_other_version = query.edns is not None and query.edns.version
        return None if of_other_version else query  # the server says which it knows (RFC 6891, 6.1.3)

    def _answer(self, query: Query, limit: int) -> Output:
        message = response.write(query, self._values[query.name], limit)
        answered = Answer(ChallengeId(TYP, to_text(query.name))) if response.has_values(message) else None
        return Output(message, answer=answered)


def value(key_authorization: str) -> bytes:
    """Return what a TXT record must have for a key authorization (RFC 8555, 8.4)."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _selector(port: int, transport: Transport, name: bytes) -> Selector:
    """Return what selects queries (RFC 1035, 4.1.1) with one question, whose name begins with these labels."""
    mask = bytes(_IGNORING_CASE if chr(byte).isalpha() else 0xFF for byte in name)
    message = LENGTH if transport is Transport.TCP else 0
    header = (Field(message + field.offset, field.value, field.mask) for field in _QUERY)
    fields = (*header, Field(message + HEADER, name, mask))
    return Selector(port, (fields,), after_proxy_header=False, by_question=True, transport=transport)


def _may_begin_query(message: bytes) -> bool:
    return all(field.agrees_with(message) for field in _QUERY)


def challenge_in(message: bytes) -> ChallengeId | None:
    """Return the challenge that a message asks for, pending or not, or None if it asks for none."""
    query = parse(message)
    if query is None or query.typ != Type.TXT or not query.name.startswith(_FIRST_LABEL):
        return None
    return ChallengeId(TYP, to_text(query.name))
