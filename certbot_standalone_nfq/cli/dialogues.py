"""What requests and replies of each type of challenge look like, in words. All bytes are an attacker's."""

from __future__ import annotations

import re
from typing import NamedTuple

from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.settings import TLS_ALPN_01

_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}[^\r\n]{0,60})")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_HANDSHAKE, _ALERT = b"\x16\x03", b"\x15\x03"
_ALERTS = {40: "handshake failure", 80: "internal error", 112: "unrecognized name", 120: "no application protocol"}
"""RFC 8446, 6; RFC 7301, 3.2."""


class Asked(NamedTuple):
    """Whom a request is for, and for what it asks."""

    host: str
    what: str


def asked(payload: bytes, challenge: ChallengeId) -> Asked:
    """Return what a request asks."""
    if challenge.typ == TLS_ALPN_01:
        return Asked(printable(challenge.key.encode()), f"a handshake of {TLS_ALPN_01}")
    found = _HOST.search(payload)
    return Asked(printable(found.group(1)) if found else "(no host)", challenge.key)


def reply(payload: bytes) -> str:
    """Return what the beginning of a reply says."""
    found = _STATUS.match(payload)
    if found:
        return printable(found.group(1))
    if payload.startswith(_HANDSHAKE):
        return "TLS handshake"
    if payload.startswith(_ALERT) and len(payload) > 6:
        return f"TLS alert {payload[6]} ({_ALERTS.get(payload[6], 'see RFC 8446')})"
    return "neither HTTP nor TLS"


def printable(data: bytes) -> str:
    """Return bytes as text that cannot control a terminal."""
    return _UNPRINTABLE.sub("?", data.decode("latin-1")).strip()
