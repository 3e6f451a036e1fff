"""At which names the challenges of dns-01 are answered: at their own, or at those that these are aliases of."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.settings import DNS_01

if TYPE_CHECKING:
    from certbot_standalone_nfq.host.dns.judgement import Lead

logger = logging.getLogger(__name__)

_LABEL = "_acme-challenge."


class Leads:
    """What was found out about challenges before anything was captured."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def follow(self, challenges: Iterable[ChallengeId]) -> None:
        """Find out where challenges of dns-01 are looked up; log what the user should know.

        Raises one of the package's errors if a challenge cannot succeed. What cannot be found out is no error.
        """
        names = [key[len(_LABEL) :] for typ, key in challenges if typ == DNS_01 and key.startswith(_LABEL)]
        if not names:
            return
        try:
            from certbot_standalone_nfq.host.dns.lead import leads
        except ImportError as error:  # pip's --no-deps leaves dnspython out
            logger.warning("Where challenges are looked up is not checked, as dnspython cannot be loaded: %s", error)
            return
        found = leads(names)
        for lead in found.values():
            _log(lead)
        for name, lead in found.items():
            if lead.error:
                raise lead.error
            self._owners[_LABEL + name] = lead.owner

    def owner(self, challenge: ChallengeId) -> ChallengeId:
        """Return a challenge as it is asked for."""
        if challenge.typ != DNS_01:
            return challenge
        return ChallengeId(DNS_01, self._owners.get(challenge.key, challenge.key))


def _log(lead: Lead) -> None:
    if lead.seen:
        logger.info("%s", lead.seen)
    for words in lead.warnings:
        logger.warning("%s", words)
    for words in lead.remarks:
        logger.info("%s", words)
