"""Damaged DNS queries in any number, which `scripts/fuzz-queries` asks for.

The invariant: none raises, none takes longer than a millisecond of CPU time, and each answer is one to the very
question: dnspython reads all of it. The seed is printed, and gives the same queries again.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections import Counter

import dns.edns
import dns.flags
import dns.message

from certbot_standalone_nfq.challenges.dns01.conversation import Dns01Conversation
from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.engine.datagrams import Datagrams
from certbot_standalone_nfq.wire.udp import Datagram, parse, write

NAME = "_acme-challenge.example.com"
ENDS = ("192.0.2.1", 40000, "198.51.100.2", 53)
LIMIT = 0.001
"""Seconds of CPU time for one query, by every way there is."""
_TRIES = 3
"""How often a slow query is tried: an interrupt's time counts as whoever's it interrupts."""
_INTERESTING = (0, 1, 12, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF)


def corpus() -> list[bytes]:
    """Return queries of all kinds that are answered, and some that are not."""
    made = []
    for typ in ("TXT", "ANY", "NS", "DS"):
        for name in (NAME, NAME.swapcase(), "_acme-challenge." + ".".join(["x" * 60] * 3), "example.com"):
            plain = dns.message.make_query(name, typ)
            with_options = dns.message.make_query(name, typ)
            options: list[dns.edns.Option] = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(range(24)))]
            with_options.use_edns(0, dns.flags.DO, 1232, options=options)
            made += [plain.to_wire(), with_options.to_wire()]
    return made


def damaged(message: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return a message with a few bytes changed, cut out, put in, or with the end of another."""
    changed = bytearray(message)
    for _ in range(chance.choice((0, 1, 1, 2, 4, 8))):
        place = chance.randrange(len(changed) or 1)
        way = chance.randrange(5)
        if way == 0 and changed:
            changed[place] = chance.choice(_INTERESTING)
        elif way == 1 and changed:
            changed[place] ^= 1 << chance.randrange(8)
        elif way == 2:
            del changed[place : place + chance.randrange(8)]
        elif way == 3:
            changed[place:place] = chance.randbytes(chance.randrange(1, 20))
        else:
            changed[place:] = other[place:]
    return bytes(changed)


class Subject:
    """All that reads and answers queries."""

    def __init__(self) -> None:
        self.solver = Dns01Solver()
        self.solver.add(NAME, "token.thumbprint")
        self.solver.add(NAME, "other.thumbprint")

    def answers(self, message: bytes) -> list[bytes]:
        """Return what is answered to a message over UDP and over TCP."""
        found = []
        reaction = Datagrams([self.solver]).handle(write(Datagram(*ENDS, message)), 0.0, verified=False)
        if reaction.reply:
            found.append(parse(write(reaction.reply), verified=False).payload)
        stream = len(message).to_bytes(2, "big") + message
        recognition = self.solver.recognise(stream)
        if isinstance(recognition, Dns01Conversation):
            found.append(recognition.receive(stream, ended=False).data[2:])
        self.solver.question_in(message)
        return found


def is_answer(answer: bytes, message: bytes) -> bool:
    """Whether an answer is one to a message, and dnspython reads the whole of it."""
    read = dns.message.from_wire(answer)
    question = answer[12 : 12 + len(read.question[0].name.to_wire() or b"") + 4]
    return answer[:2] == message[:2] and bool(read.flags & dns.flags.QR) and message[12:].startswith(question)


def slowness(subject: Subject, message: bytes) -> float:
    """Return the seconds of CPU time that a message takes; the least of some tries, if the first is too long."""
    least = float("inf")
    for _ in range(_TRIES):
        begin = time.thread_time()
        subject.answers(message)
        least = min(least, time.thread_time() - begin)
        if least <= LIMIT:
            break
    return least


def campaign(number: int, seed: int) -> Counter[str]:
    """Return what became of so many queries. Raises whatever the parts under test do."""
    chance, subject, queries = random.Random(seed), Subject(), corpus()
    counted: Counter[str] = Counter()
    subject.answers(queries[0])  # scapy makes its headers now
    gc.freeze()
    for _ in range(number):
        message = damaged(chance.choice(queries), chance.choice(queries), chance)
        answers = subject.answers(message)
        counted["queries"] += 1
        counted["answered"] += bool(answers)
        counted["wrong"] += not all(is_answer(answer, message) for answer in answers)
        seconds = slowness(subject, message)
        counted["slow"] += seconds > LIMIT
        counted["slowest, microseconds"] = max(counted["slowest, microseconds"], round(seconds * 1e6))
    return counted


def main() -> int:
    """Run, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz-queries", description=__doc__)
    parser.add_argument("--queries", type=int, default=1_000_000, metavar="NUMBER", help="how many (default: 1000000)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="for the same ones again")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    counted = campaign(options.queries, options.seed)
    print(", ".join(f"{name}: {count}" for name, count in counted.items()))
    return 1 if counted["wrong"] or counted["slow"] else 0


if __name__ == "__main__":
    sys.exit(main())
