"""Running the plugin's interception on a host, within the test or as a program of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from certbot_standalone_nfq.challenges import registry
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.engine.protocols import ChallengeId, StreamSolver
from certbot_standalone_nfq.engine.verdicts import Answered, Event
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.session.interception import Interception
from certbot_standalone_nfq.session.witness import Witness
from certbot_standalone_nfq.settings import HTTP_01, Settings
from lab.hosts import Host, kernel_can_own_tables, kernel_can_queue_by_nft
from lab.processes import running

CLIENTS = ["netlink"] + (["fnfqueue"] if importlib.util.find_spec("fnfqueue") else [])
IPTABLES = ["iptables-nft", "iptables-legacy"]
_ONLY = os.environ.get("NFQ_CAPTURE", "")
EBPF = ["ebpf"] if _ONLY in ("", "ebpf") else []
VARIANTS = [*IPTABLES, *(["nftables"] if kernel_can_queue_by_nft() else [])]
KINDS = [variant for variant in VARIANTS if variant != "iptables-legacy"]  # has the same rules
if _ONLY:
    VARIANTS = KINDS = [] if EBPF else [_ONLY]
REMOVABLE = [variant for variant in VARIANTS if variant != "nftables" or not kernel_can_own_tables()]
"""Those whose rules another program can remove."""
BY_RULES = VARIANTS[0] if _ONLY and VARIANTS else "iptables"
"""For tests of what only rules and a queue do."""
_DEFAULTS = {"capture": _ONLY or "iptables"}
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
KEY_AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


HTTP01_PORT = ChallengePort(80, (Http01Solver,))


def challenge(key: str = TOKEN, typ: str = Http01Solver.typ) -> ChallengeId:
    """Return the challenge of a type that has a key."""
    return ChallengeId(typ, key)


@contextlib.contextmanager
def intercepting(
    host: Host,
    answers: Mapping[str, str] | None = None,
    port: int = 80,
    solver: type[StreamSolver] = Http01Solver,
    **settings: Any,
) -> Iterator[tuple[Interception, list[Answered]]]:
    """Intercept on a host, in this process, for one token or the keys given, of a type of challenge."""
    answered: list[Answered] = []
    pending = answers or {TOKEN: KEY_AUTHORIZATION}
    expected = tuple(challenge(key, solver.typ) for key in pending)
    with host.inside():
        interception = Interception(
            ChallengePort(port, (solver,), expected),
            Settings(**{**_DEFAULTS, **settings}),
            take_snapshot(),
            lambda event: _keep(event, answered),
        )
        interception.start()
    for key, key_authorization in pending.items():
        interception.answer(challenge(key, solver.typ), key_authorization)
    try:
        yield interception, answered
    finally:
        for key, key_authorization in pending.items():
            interception.withdraw(challenge(key, solver.typ), key_authorization)
        with host.inside():
            interception.stop()


def _keep(event: Event, answered: list[Answered]) -> None:
    if isinstance(event, Answered):
        answered.append(event)


def interceptor_command(host: Host, **settings: Any) -> list[str]:
    """Return the command that intercepts on a host until its input ends, and observes as the plugin does.

    With `others`, that many further tokens are pending. With `typ` and `key`, another challenge is.
    """
    return host.command(sys.executable, "-m", "lab.interceptor", json.dumps(settings))


@contextlib.contextmanager
def interceptor_process(host: Host, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Intercept in a process of its own, which can be killed; it intercepts when the context begins."""
    with running(interceptor_command(host, **settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        line = process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"the interceptor did not start: {line!r}")
        yield process
        process.stdin.close()  # tells it to stop in good order, if it still can
        process.wait(30)


def _main() -> None:
    settings = {**_DEFAULTS, "port": 80, "others": 0, "typ": HTTP_01, "key": TOKEN, **json.loads(sys.argv[1])}
    others, pending = settings.pop("others"), challenge(settings.pop("key"), settings.pop("typ"))
    port = ChallengePort(settings.pop("port"), (registry.solver(pending.typ),))
    chosen = Settings(**settings)
    witness = Witness(port, observe=chosen.evidence)
    witness.start()
    interception = Interception(port, chosen, take_snapshot(), witness.tell)
    interception.start()
    interception.answer(pending, KEY_AUTHORIZATION)
    for _ in range(others):
        interception.answer(challenge(secrets.token_urlsafe(32)), KEY_AUTHORIZATION)
    print("ready", flush=True)
    sys.stdin.read()
    interception.stop()
    witness.stop()


if __name__ == "__main__":
    _main()
