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

from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.verdicts import Acknowledged, Answered
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.session.interception import Interception
from certbot_standalone_nfq.session.witness import Witness
from certbot_standalone_nfq.settings import AUTO, Settings
from lab.hosts import Host, kernel_can_queue_by_nft
from lab.processes import running

CLIENTS = ["netlink"] + (["fnfqueue"] if importlib.util.find_spec("fnfqueue") else [])
IPTABLES = ["iptables-nft", "iptables-legacy"]
_ONLY = os.environ.get("NFQ_CAPTURE", "")
VARIANTS = [_ONLY] if _ONLY else [*IPTABLES, *(["nftables"] if kernel_can_queue_by_nft() else [])]
KINDS = [_ONLY] if _ONLY else [variant for variant in VARIANTS if variant != "iptables-legacy"]  # has the same rules
_DEFAULTS = {"port": 80, "capture": _ONLY or AUTO}
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
KEY_AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


@contextlib.contextmanager
def intercepting(
    host: Host, answers: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[tuple[Interception, list[Answered]]]:
    """Intercept on a host, in this process, for one token or those given."""
    answered: list[Answered] = []
    with host.inside():
        interception = Interception(
            Settings(**{**_DEFAULTS, **settings}), take_snapshot(), lambda event: _keep(event, answered)
        )
    for token, key_authorization in (answers or {TOKEN: KEY_AUTHORIZATION}).items():
        interception.answer(Http01Solver.typ, token, key_authorization)
    try:
        yield interception, answered
    finally:
        for token in answers or [TOKEN]:
            interception.withdraw(Http01Solver.typ, token)
        with host.inside():
            interception.stop()


def _keep(event: Answered | Acknowledged, answered: list[Answered]) -> None:
    if isinstance(event, Answered):
        answered.append(event)


def interceptor_command(host: Host, **settings: Any) -> list[str]:
    """Return the command that intercepts on a host until its input ends, and observes as the plugin does.

    With `others`, that many further tokens are pending.
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
    settings = {**_DEFAULTS, "others": 0, **json.loads(sys.argv[1])}
    others = settings.pop("others")
    witness = Witness(settings["port"])
    witness.start()
    interception = Interception(Settings(**settings), take_snapshot(), witness.tell)
    interception.answer(Http01Solver.typ, TOKEN, KEY_AUTHORIZATION)
    for _ in range(others):
        interception.answer(Http01Solver.typ, secrets.token_urlsafe(32), KEY_AUTHORIZATION)
    print("ready", flush=True)
    sys.stdin.read()
    interception.stop()
    witness.stop()


if __name__ == "__main__":
    _main()
