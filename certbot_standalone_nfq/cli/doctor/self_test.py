"""A challenge requested and answered, in a network namespace that no other process is in."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue.allocation import Selection
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.cli.doctor.network_namespace import forbid_loading_modules
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.host.addresses import has_ipv6
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.session.interception import Interception
from certbot_standalone_nfq.settings import Settings

_ANSWER_SECONDS = 1.0
_LOOPBACK = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}


@dataclass(frozen=True)
class Exchange:
    """One request over one IP version: how long its answer took, in milliseconds, or what went wrong."""

    version: int
    milliseconds: float
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of the self-test."""

    selection: str
    lack: tuple[str, str] | None
    """Why no better selection was possible, and what to do about it."""
    exchanges: tuple[Exchange, ...]


def intercept_without_loading(capture: str) -> Outcome:
    """Like `intercept`, but load no kernel modules if some are missing."""
    forbid_loading_modules()
    return intercept(capture)


def intercept(capture: str) -> Outcome:
    """Intercept on the loopback interface, by one way to capture. Raises one of the package's errors."""
    versions = (4, 6) if has_ipv6() else (4,)
    with _listening(versions) as port:
        interception, selection, lack = _start(port, capture)
        try:
            exchanges = tuple(_exchange(interception, version, port) for version in versions)
        finally:
            interception.stop()
    return Outcome(selection.value, (lack.cause, lack.cure) if lack else None, exchanges)


@contextlib.contextmanager
def _listening(versions: tuple[int, ...]) -> Iterator[int]:
    """Listen to one port by each IP version. Nobody reads: the kernel alone completes handshakes."""
    port = 0
    with contextlib.ExitStack() as stack:
        for version in versions:
            family, address = _LOOPBACK[version]
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.bind((address, port))
            listener.listen()
            port = listener.getsockname()[1]
        yield port


def _start(port: int, capture: str) -> tuple[Interception, Selection, errors.Error | None]:
    """Intercept with the first selection that works; return it, and why not the one before it."""
    lack: errors.KernelSupportMissing | None = None
    for selection in Selection:
        settings = Settings(capture=capture, selection=selection.value)
        try:
            challenges = ChallengePort(port, (Http01Solver,))
            interception = Interception(challenges, settings, Snapshot(), lambda _: None)
            interception.start()
            return interception, selection, lack
        except errors.KernelSupportMissing as error:
            lack = error
    raise lack or AssertionError("no selection, and no error either")


def _exchange(interception: Interception, version: int, port: int) -> Exchange:
    token = secrets.token_urlsafe(32)
    key_authorization = f"{token}.{secrets.token_urlsafe(32)}"
    challenge = ChallengeId(Http01Solver.typ, token)
    interception.answer(challenge, key_authorization)
    begin = time.monotonic()
    try:
        answer = _ask(version, port, token)
    except OSError as error:
        return Exchange(version, 0, f"the request was not answered ({error.strerror or error})")
    finally:
        interception.withdraw(challenge, key_authorization)
    milliseconds = (time.monotonic() - begin) * 1000
    if not answer.endswith(b"\r\n\r\n" + key_authorization.encode()):
        return Exchange(version, milliseconds, "the answer is not the key authorization")
    return Exchange(version, milliseconds)


def _ask(version: int, port: int, token: str) -> bytes:
    family, address = _LOOPBACK[version]
    answer = b""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(_ANSWER_SECONDS)
        client.connect((address, port))
        client.sendall(f"GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while octets := client.recv(4096):
            answer += octets
    return answer
