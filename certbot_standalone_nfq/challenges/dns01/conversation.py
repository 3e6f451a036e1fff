"""The dialogue of dns-01 over TCP (RFC 7766): each message comes behind its length in two bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

from certbot_standalone_nfq.engine.protocols import Output

LENGTH = 2
"""Bytes of the length before each message (RFC 1035, 4.2.2)."""
MAX_MESSAGE = 2048
"""Bytes of a query; real ones have a hundred, and padded ones some hundreds (RFC 8467, 4.1)."""

Reply = Callable[[bytes], Optional[Output]]
"""Returns the response to a message, or None if it is none of ours."""


def framed(message: bytes) -> bytes:
    """Return a message behind its length."""
    return len(message).to_bytes(LENGTH, "big") + message


def first_message(stream: bytes) -> bytes:
    """Return what has come of a stream's first message."""
    return stream[LENGTH : LENGTH + length_of_first(stream)]


def length_of_first(stream: bytes) -> int:
    """Return the length of a stream's first message, whose two bytes have come."""
    return int.from_bytes(stream[:LENGTH], "big")


class Dns01Conversation:
    """Answers the queries of one connection, the first of which was recognised.

    It closes once all that has come is answered, or something is not ours: the server, which other queries are for, no
    longer has the connection. Clients must expect that, and ask again on another one (RFC 7766, 6.2.4).
    """

    seconds = 30.0

    def __init__(self, reply: Reply) -> None:
        """Answer what this answers."""
        self._reply = reply
        self._received = b""
        self._closed = False

    def receive(self, data: bytes, *, ended: bool) -> Output:
        """Take the next bytes; answer the queries that are whole."""
        if self._closed:
            return Output()
        self._received += data
        outputs = list(self._answers())
        sent = b"".join(framed(output.data) for output in outputs)
        self._closed = ended or not self._may_go_on()
        if self._closed:
            self._received = b""
        return Output(sent, close=self._closed, answer=next((each.answer for each in outputs if each.answer), None))

    def _answers(self) -> Iterator[Output]:
        """Yield the answers to the whole queries, up to the first one that is not ours."""
        while self._has_whole_message():
            output = self._reply(first_message(self._received))
            if output is None:
                return
            self._received = self._received[LENGTH + length_of_first(self._received) :]
            yield output

    def _has_whole_message(self) -> bool:
        return len(self._received) >= LENGTH and len(self._received) >= LENGTH + length_of_first(self._received)

    def _may_go_on(self) -> bool:
        """Whether what has come and is not answered may become a query of ours."""
        if not self._received or self._has_whole_message():
            return False
        return len(self._received) < LENGTH or length_of_first(self._received) <= MAX_MESSAGE
