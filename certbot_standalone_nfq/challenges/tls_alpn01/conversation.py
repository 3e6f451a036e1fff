"""The TLS dialogue of tls-alpn-01 (RFC 8737, 3): a handshake, and the close.

The validator closes first, as soon as it has seen the certificate. It is answered with FIN alone: a close_notify would
come to a socket that is closed already, and draw a reset.
"""

from __future__ import annotations

import ssl

from certbot_standalone_nfq.engine.protocols import Answer, ChallengeId, Output

MAX_BYTES = 32768
"""Bytes of the peer's. A real handshake takes two thousand, and is followed by nothing."""


class TlsConversation:
    """Answers one challenge. Its TLS engine is let go as soon as the dialogue is over."""

    seconds = 20.0
    """How long a dialogue may take, in seconds. CAs wait for ten."""

    def __init__(self, challenge: ChallengeId, context: ssl.SSLContext) -> None:
        """Begin, with the context whose certificate is the answer."""
        self._challenge = challenge
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._left = MAX_BYTES
        self._answered = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be said."""
        return self._tls is None

    def receive(self, data: bytes, *, ended: bool) -> Output:
        """Take the next bytes; the challenge is answered once the handshake is complete on both sides."""
        if self._tls is None:
            return Output()
        self._left -= len(data)
        if self._left < 0:
            return self._close()
        self._incoming.write(data)
        if ended:
            self._incoming.write_eof()
        return self._proceed(self._tls)

    def _proceed(self, tls: ssl.SSLObject) -> Output:
        answer = None
        try:
            if not self._answered:
                tls.do_handshake()
                self._answered, answer = True, Answer(self._challenge)
            while tls.read(1024):
                pass
        except ssl.SSLWantReadError:
            return Output(self._outgoing.read(), answer=answer)
        except OSError:  # of which ssl.SSLError is one: the peer closes, complains, or makes no sense
            pass
        return self._close(answer)

    def _close(self, answer: Answer | None = None) -> Output:
        """End the dialogue: behind the handshake with FIN alone, before with what TLS has to complain of."""
        said = b"" if self._answered and answer is None else self._outgoing.read()
        self._tls = None
        return Output(said, close=True, answer=answer)
