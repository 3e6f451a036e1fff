"""What was seen of the authority's requests, as values, and the words for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from certbot_standalone_nfq.core.actions import Answered


class Evidence:
    """The requests that were answered, by token and source address. For use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered: dict[str, Counter[str]] = {}

    def record(self, answered: Answered) -> None:
        """Take note of an answered request."""
        with self._lock:
            self._answered.setdefault(answered.token, Counter())[answered.connection.peer] += 1

    def requests(self, token: str) -> Mapping[str, int]:
        """Return how many requests for a token came from each address."""
        with self._lock:
            return dict(self._answered.get(token, {}))


def hint(name: str, requests: Mapping[str, int], port: int) -> str:
    """Say, in one line, what arrived at this machine for a name whose validation failed, and what to look at."""
    if not requests:
        return (
            f"{name}: no challenge request arrived at TCP port {port} of this machine. "
            "Check that the name's A and AAAA records lead here and that no firewall blocks the port on the way."
        )
    total, addresses = sum(requests.values()), ", ".join(sorted(requests))
    return (
        f"{name}: {total} challenge request{'s' if total > 1 else ''} arrived at this machine and "
        f"{'were' if total > 1 else 'was'} answered (from {addresses}), so port {port} is reachable from there. "
        "What failed, failed elsewhere: see the authority's message above."
    )
