"""Hand damaged TLS handshakes to the parts of tls-alpn-01 that read and answer them, which run as root.

Each is a real ClientHello, or a whole dialogue of a real client, with some bytes changed, cut out, doubled or cut off.
The parser raises nothing but its own exception, the solver and the dialogue raise nothing; nothing takes long, what is
said is short, and the memory of the process does not grow.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field

from certbot_standalone_nfq.challenges.tls_alpn01.client_hello import Malformed, read
from certbot_standalone_nfq.challenges.tls_alpn01.context import context
from certbot_standalone_nfq.challenges.tls_alpn01.conversation import TlsConversation
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.engine.protocols import ChallengeId
from lab.tls import HELLOS, MANY, VISITOR, TlsClient, client_hello

NAMES = ("example.com", "2.100.51.198.in-addr.arpa")
LONGEST_SAID = 8192
"""Bytes that a dialogue says at once: a server's flight with room to spare."""
SECONDS = 0.5
"""Of CPU time, that no input may take, on whatever machine."""
_EVERY_DIALOGUE = 10
"""One input in so many is carried on as a dialogue, which takes a hundred times the time."""


@dataclass
class Findings:
    """What came of the inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    longest: int = 0


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return bytes with some damage."""
    made = bytearray(data)
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(made) + 1)
        kind = chance.randrange(4)
        if kind == 0 and place < len(made):
            made[place] = chance.randrange(256)
        elif kind == 1:
            del made[place : place + chance.randrange(40)]
        elif kind == 2:
            made[place:place] = made[place : place + chance.randrange(40)]
        else:
            made[place:place] = chance.randbytes(chance.randrange(8))
    return bytes(made[: chance.randrange(len(made) + 1)] if not chance.randrange(4) else made)


class Target:
    """The parts, and what they are handed."""

    def __init__(self) -> None:
        made = context(NAMES[0], "token.thumbprint")
        self._context = made
        self._solver = TlsAlpn01Solver(lambda *_: made)
        for name in NAMES:
            self._solver.add(name, "token.thumbprint")
        self._hellos = [path.read_bytes() for path in sorted(HELLOS.iterdir())]
        self._hellos += [client_hello(NAMES[0], protocols) for protocols in (("acme-tls/1",), VISITOR, MANY)]

    def hand(self, chance: random.Random, findings: Findings, *, dialogue: bool) -> None:
        """Hand over one input, and take note of what came of it."""
        start = damaged(chance.choice(self._hellos), chance)
        try:
            read(start)
            findings.outcomes["read"] += 1
        except Malformed:
            findings.outcomes["malformed"] += 1
        found = self._solver.recognise(start)
        findings.outcomes[type(found).__name__] += 1
        if dialogue:
            self._talk(chance, findings)

    def _talk(self, chance: random.Random, findings: Findings) -> None:
        """Have a dialogue with a real client, whose words are damaged on the way."""
        client, conversation = TlsClient(NAMES[0]), TlsConversation(ChallengeId("tls-alpn-01", NAMES[0]), self._context)
        hello = client.hear()
        flight = conversation.receive(hello if chance.randrange(4) else damaged(hello, chance), ended=False)
        said = [flight]
        if flight.data and not flight.close:
            try:
                finished = client.hear(flight.data) + client.bye()
            except OSError:
                finished = b""
            said.append(conversation.receive(damaged(finished, chance), ended=not chance.randrange(3)))
        said.append(conversation.receive(chance.randbytes(chance.randrange(200)), ended=True))
        assert conversation.is_over
        findings.longest = max(findings.longest, *(len(output.data) for output in said))
        findings.outcomes["answered" if any(output.answer for output in said) else "not answered"] += 1


def main() -> int:
    """Hand them over; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz-handshakes", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="NUMBER", help="how many (default: a million)")
    parser.add_argument("--seed", type=int, default=1, metavar="NUMBER", help="of the damage (default: 1)")
    arguments = parser.parse_args()
    target, chance, findings = Target(), random.Random(arguments.seed), Findings()
    before = 0
    for number in range(arguments.inputs):
        if number == min(1000, arguments.inputs // 2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.process_time()
        target.hand(chance, findings, dialogue=number % _EVERY_DIALOGUE == 0)
        findings.slowest = max(findings.slowest, time.process_time() - begin)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    for outcome, count in findings.outcomes.most_common():
        print(f"{count:10,}  {outcome}")
    print(f"{arguments.inputs:,} inputs; the slowest took {findings.slowest * 1000:.1f} ms; {findings.longest} bytes")
    print(f"were said at once at most; the memory of the process grew by {grown} KiB after the first thousand")
    return int(findings.slowest > SECONDS or findings.longest > LONGEST_SAID or grown > 4096)


if __name__ == "__main__":
    raise SystemExit(main())
