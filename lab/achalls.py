"""Certbot's own objects, as it hands them to an authenticator."""

from __future__ import annotations

from typing import Any

from acme import challenges, messages
from certbot import achallenges
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWKRSA

KEY = JWKRSA(key=rsa.generate_private_key(65537, 2048))


def achall(
    number: int, name: str = "example.com", problem: messages.Error | None = None, typ: str = "http-01"
) -> achallenges.AnnotatedChallenge:
    """Return a challenge of a type for a name, whose token a number decides."""
    challb = messages.ChallengeBody(
        chall=challenges.Challenge.TYPES[typ](token=bytes([number]) * 32),
        uri="https://ca.test/1",
        status=messages.STATUS_PENDING,
        error=problem,
    )
    return achallenges.KeyAuthorizationAnnotatedChallenge(challb=challb, account_key=KEY, **_identifier(name))


def _identifier(name: str) -> dict[str, Any]:
    """Return what names an authorization in the Certbot at hand: `identifier` since 5.3, `domain` before."""
    if "identifier" in achallenges.KeyAuthorizationAnnotatedChallenge.__slots__:
        return {"identifier": messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name)}
    return {"domain": name}
