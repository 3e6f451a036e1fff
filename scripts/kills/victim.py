"""A process that performs, answers and cleans up when it is told to, as often as it is told to.

It reads a line of settings for each time, and forks: what is killed is the child, which writes a line when it begins
with something. Its modules are loaded once, by the parent. Signals are handled as Certbot does it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time

from acme import challenges, messages
from certbot import achallenges
from certbot._internal.error_handler import ExitHandler
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWKRSA

from certbot_standalone_nfq.authenticator import Authenticator
from certbot_standalone_nfq.capture.ebpf import system
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.session import requirements
from lab.ebpf import without_tcx
from scripts.kills.campaign import EBPF_BY_STUB

TOKEN = bytes(range(32))
ANSWERING_SECONDS = 0.1
"""How long challenges are pending."""


def main() -> None:
    """Fork once for each line of input: the way to capture, and the selection."""
    requirements.load_scapy()
    importlib.import_module("certbot_standalone_nfq.session.session")
    key = JWKRSA(key=rsa.generate_private_key(65537, 2048))
    _say("ready", 0)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _validate(key, *line.split())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        _say("ended", status)


def _validate(key: JWKRSA, capture: str, selection: str) -> None:
    if capture == EBPF_BY_STUB:
        system.call = without_tcx(system.call)
        capture = EbpfBackend.name
    options = [f"--standalone-nfq-capture={capture}", f"--standalone-nfq-selection={selection}"]
    authenticator = Authenticator(_configuration(options), "standalone-nfq")
    challs = [_challenge(key)]
    try:
        with ExitHandler(_clean_up, authenticator, challs):
            _say("perform", os.getpid())
            authenticator.perform(challs)
            _say("answering", os.getpid())
            time.sleep(ANSWERING_SECONDS)
            _say("cleanup", os.getpid())
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _clean_up(authenticator: Authenticator, challs: list[achallenges.AnnotatedChallenge]) -> None:
    authenticator.cleanup(challs)
    _say("done", os.getpid())


def _configuration(options: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-01-port", dest="http01_port", type=int, default=80)
    parser.add_argument("--http-01-address", dest="http01_address", default="")
    Authenticator.inject_parser_options(parser, "standalone-nfq")
    return parser.parse_args(options)


def _challenge(key: JWKRSA) -> achallenges.AnnotatedChallenge:
    body = messages.ChallengeBody(
        chall=challenges.HTTP01(token=TOKEN), uri="https://ca.test/1", status=messages.STATUS_PENDING
    )
    named = (
        {"identifier": messages.Identifier(typ=messages.IDENTIFIER_FQDN, value="example.com")}
        if "identifier" in achallenges.KeyAuthorizationAnnotatedChallenge.__slots__
        else {"domain": "example.com"}
    )
    return achallenges.KeyAuthorizationAnnotatedChallenge(challb=body, account_key=key, **named)


def _say(what: str, number: int) -> None:
    print(what, number, flush=True)


if __name__ == "__main__":
    main()
