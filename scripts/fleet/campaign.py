"""What happens to a fleet while certificates are issued: who was asked, and what clients and logs saw of it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from certbot_standalone_nfq.cli.answer import accounts
from lab.answerer import answerer
from lab.capture import Capture, capture
from lab.certbot import RENEW, Certbot
from lab.fleet import NAMES, Fleet
from scripts.kills.bystanders import Bystander

_PATH = "0x2f2e7765"
"""`/.we`, with which no page of the clients begins."""
_REQUEST = (
    f"tcp[(tcp[12] >> 4) * 4 + 4 : 4] = {_PATH} or (ip6 proto 6 and ip6[40 + (ip6[52] >> 4) * 4 + 4 : 4] = {_PATH})"
)
"""For tcpdump: challenge requests, over both IP versions."""
_ASKS = "Attempting to validate w/ HTTP"


@dataclass
class Outcome:
    """What came of it."""

    reached: list[Counter[str]]
    """How many validations of each name reached each server."""
    clients: dict[str, list[Bystander]] = field(default_factory=dict)
    """By balancer: those that loaded pages."""
    asked: int = 0
    """How many validations Pebble began."""
    faults: list[str] = field(default_factory=list)

    @property
    def arrived(self) -> int:
        """How many validations reached a server."""
        return sum(sum(each.values()) for each in self.reached)

    @property
    def failures(self) -> list[str]:
        """What went wrong with pages."""
        return [failure for each in itertools.chain(*self.clients.values()) for failure in each.failures]

    def fault(self, what: str, *, unless: bool) -> None:
        """Note a fault, if it is one."""
        if not unless:
            self.faults.append(what)


def run(fleet: Fleet, folder: Path, issuances: int) -> Outcome:
    """Issue so many certificates and renew each, with everything that watches. Raises RuntimeError if one fails."""
    certbot = Certbot(fleet.members[0].host, fleet.authority, folder / "certbot")
    _succeed(certbot, "register", *certbot.account())
    print_ = accounts.only(certbot.configuration).thumbprint
    before = fleet.state()
    with contextlib.ExitStack() as stack:
        seen = [stack.enter_context(_witness(fleet, number, folder)) for number in range(len(fleet.members))]
        for member in fleet.members:
            stack.enter_context(answerer(member.host, *NAMES, arguments=("--thumbprint", print_)))
        outcome = _under_load(fleet, certbot, issuances)
    outcome.reached = [_names(each) for each in seen]
    outcome.asked = fleet.authority.log.read_text().count(_ASKS)
    outcome.fault("a validation was begun that did not reach a server", unless=outcome.arrived == outcome.asked)
    outcome.fault("a server's rules, processes or logs changed", unless=fleet.state() == before)
    outcome.faults += outcome.failures
    return outcome


def _under_load(fleet: Fleet, certbot: Certbot, issuances: int) -> Outcome:
    outcome = Outcome([])
    quiet = fleet.haproxy_log.read_text()
    with contextlib.ExitStack() as stack:
        for balancer, addresses in fleet.addresses().items():
            clients = [Bystander(fleet.internet, address, keep=keep) for address in addresses for keep in (True, False)]
            for client in clients:
                client.start()
                stack.callback(client.end)
            outcome.clients[balancer] = clients
        for number in range(issuances):
            _issue_and_renew(certbot)
            print(f"{number + 1} issued and renewed", flush=True)
    outcome.fault("HAProxy's log has lines", unless=fleet.haproxy_log.read_text() == quiet)
    return outcome


def _issue_and_renew(certbot: Certbot) -> None:
    domains = [word for name in NAMES for word in ("-d", name)]
    for folder in ("live", "archive", "renewal"):
        shutil.rmtree(certbot.configuration / folder, ignore_errors=True)
    _succeed(certbot, "certonly", "-a", "standalone-nfq", *domains, "--server", certbot.authority.directory)
    _succeed(certbot, *RENEW)


def _succeed(certbot: Certbot, *arguments: str) -> None:
    result = certbot.run(*arguments)
    if result.returncode:
        raise RuntimeError(f"certbot {arguments[0]}: status {result.returncode}\n{result.stdout}")


@contextlib.contextmanager
def _witness(fleet: Fleet, number: int, folder: Path) -> Iterator[Capture]:
    """Write down the challenge requests that reach a server."""
    with capture(fleet.members[number].host, folder / f"{number}.pcap", f"tcp dst port 80 and ({_REQUEST})") as seen:
        yield seen


def _names(seen: Capture) -> Counter[str]:
    """Return how many connections asked for each name; a request that was sent again is one."""
    requests = {(packet.src, packet["TCP"].sport, packet["TCP"].seq): packet for packet in seen.segments()}
    return Counter(_host(bytes(packet["TCP"].payload)) for packet in requests.values())


def _host(request: bytes) -> str:
    head = dict(line.split(b": ", 1) for line in request.splitlines() if b": " in line)
    return head[b"Host"].decode().partition(":")[0]
