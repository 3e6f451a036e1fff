"""The http-01 tokens that runs on this machine answer themselves: who answers any token leaves these alone."""

from __future__ import annotations

import logging

from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.host import claims
from certbot_standalone_nfq.settings import HTTP_01

logger = logging.getLogger(__name__)

_TOKEN = "token"


class ClaimedTokens:
    """The claims of one run, until `close`. That one cannot be made is logged, and no error."""

    def __init__(self) -> None:
        self._claims: dict[str, claims.Claim] = {}

    def add(self, challenge: ChallengeId) -> None:
        """Claim a challenge's token."""
        if challenge.typ != HTTP_01 or challenge.key in self._claims:
            return
        try:
            self._claims[challenge.key] = claims.Claim(_TOKEN, challenge.key)
        except (claims.Claimed, OSError) as error:
            logger.debug("The token %s is not claimed: %s", challenge.key, error)

    def remove(self, challenge: ChallengeId) -> None:
        """Give a token up; one that is not claimed is no error."""
        claim = self._claims.pop(challenge.key, None)
        if claim:
            claim.close()

    def close(self) -> None:
        """Give all of them up."""
        while self._claims:
            self._claims.popitem()[1].close()


def is_claimed(token: str) -> bool:
    """Whether a run on this machine has claimed a token."""
    return claims.is_claimed(_TOKEN, token)
