"""One run of the authenticator as Certbot makes it, as a program of its own: `python -m benchmarks.certbot_run`.

Prints, as JSON, the milliseconds of each step, and the MiB of memory without the plugin and with it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import certbot.main  # noqa: F401  # with this and the next, what Certbot loads before any other plugin
from acme import challenges, messages
from certbot import achallenges
from certbot._internal.plugins import standalone  # noqa: F401
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWKRSA


def _peak() -> float:
    """Return the most memory this process has ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _challenge() -> achallenges.AnnotatedChallenge:
    challb = messages.ChallengeBody(
        chall=challenges.HTTP01(token=bytes(32)), uri="https://ca.test/1", status=messages.STATUS_PENDING
    )
    key = JWKRSA(key=rsa.generate_private_key(65537, 2048))
    name: dict[str, Any] = {"domain": "example.com"}
    if "identifier" in achallenges.KeyAuthorizationAnnotatedChallenge.__slots__:  # since Certbot 5.3
        name = {"identifier": messages.Identifier(typ=messages.IDENTIFIER_FQDN, value="example.com")}
    return achallenges.KeyAuthorizationAnnotatedChallenge(challb=challb, account_key=key, **name)


def _timed(step: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the milliseconds a step takes, and what it returns."""
    begin = time.perf_counter()
    result = step(*arguments)
    return (time.perf_counter() - begin) * 1000, result


def _main() -> None:
    challenge, alone = _challenge(), _peak()
    figures: dict[str, float] = {}
    figures["load"], module = _timed(importlib.import_module, "certbot_standalone_nfq.authenticator")
    parser = argparse.ArgumentParser()
    parser.set_defaults(http01_port=80, http01_address="")
    module.Authenticator.inject_parser_options(parser, "standalone-nfq")
    authenticator = module.Authenticator(parser.parse_args([]), "standalone-nfq")
    figures["prepare"], _ = _timed(authenticator.prepare)
    figures["perform"], _ = _timed(authenticator.perform, [challenge])
    figures["cleanup"], _ = _timed(authenticator.cleanup, [challenge])
    print(json.dumps({**figures, "alone": alone, "all": _peak()}))


if __name__ == "__main__":
    _main()
