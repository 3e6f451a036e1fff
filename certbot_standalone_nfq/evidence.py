"""What was seen of the authority's requests, as values, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from certbot_standalone_nfq.core.actions import Answered


class Evidence:
    """The requests that were answered, by token and source address."""

    def __init__(self) -> None:
        self._answered: dict[str, Counter[str]] = {}

    def record(self, answered: Answered) -> None:
        """Take note of an answered request."""
        self._answered.setdefault(answered.token, Counter())[answered.connection.peer] += 1

    def requests(self, token: str) -> Counter[str]:
        """Return how many requests for a token came from each address."""
        return Counter(self._answered.get(token, ()))


def hint(name: str, requests: Counter[str], port: int) -> str:
    """Say what did and did not arrive here for a name whose validation failed."""
    if not requests:
        return (
            f"No request for {name} arrived at this machine's TCP port {port}. Check that its A and AAAA records "
            "name this machine's addresses, and that no firewall on the way keeps the port shut."
        )
    return (
        f"{requests.total()} requests for {name} arrived at this machine and were answered."
    )


def _list(addresses: Iterable[str]) -> str:
    return ", ".join(sorted(addresses))
