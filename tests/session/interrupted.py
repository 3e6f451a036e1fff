"""A program that performs and cleans up, interrupted at ever later moments, which says what was left behind."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence

from certbot.achallenges import AnnotatedChallenge
from certbot.errors import SignalExit

from certbot_standalone_nfq.authenticator import Authenticator
from lab.achalls import achall
from lab.hosts import Host
from tests.test_authenticator import config

KINDS = {"KeyboardInterrupt": KeyboardInterrupt, "SignalExit": SignalExit}
MOMENTS = 40
CHALLENGES = [achall(1), achall(2)]
ON_TWO_PORTS = [achall(1), achall(2, typ="tls-alpn-01")]


def authenticator(client: str = "netlink") -> Authenticator:
    return Authenticator(config(standalone_nfq_queue_client=client), "standalone-nfq")


def held(host: Host) -> tuple[str, ...]:
    """Return what may be left: rules, listening sockets, queues, threads."""
    queues = host.queues()
    threads = " ".join(sorted(thread.name for thread in threading.enumerate()))
    return host.rules(), host.run("ss", "-ltnH"), queues, threads


def undisturbed(client: str = "netlink", challenges: Sequence[AnnotatedChallenge] = CHALLENGES) -> float:
    """Perform and clean up; return how many seconds performing took."""
    begin = time.monotonic()
    performing = authenticator(client)
    performing.perform(list(challenges))
    seconds = time.monotonic() - begin
    performing.cleanup(list(challenges))
    return seconds


def interrupted_after(seconds: float, kind: type[BaseException]) -> None:
    """Clean up after a perform that was interrupted, as Certbot does."""
    performing = authenticator()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        performing.perform(ON_TWO_PORTS)
    except kind:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    performing.cleanup(ON_TWO_PORTS)


def main(host: Host, kind: type[BaseException]) -> None:
    def interrupt(*_: object) -> None:
        raise kind

    signal.signal(signal.SIGALRM, interrupt)
    undisturbed()  # loads what is loaded once
    seconds, before = undisturbed(challenges=ON_TWO_PORTS), held(host)
    for moment in range(1, MOMENTS + 1):
        interrupted_after(seconds * moment / MOMENTS, kind)
        if held(host) != before:
            sys.stdout.write(f"left at moment {moment}: {held(host)}\n")
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(Host(sys.argv[1]), KINDS[sys.argv[2]])
