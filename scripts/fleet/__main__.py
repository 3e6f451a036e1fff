"""Issue and renew, and print what reached which server; fail if anything but the right server noticed."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import scripts.fleet
from lab.fleet import BALANCERS, FAMILIES, SERVERS, fleet, name
from scripts.fleet import campaign
from scripts.fleet.campaign import Outcome

_SERVERS = [f"Reached server {number + 1}" for number in range(SERVERS)]
_HEADER = ("Balancer", "Validations", *_SERVERS, "Pages loaded", "Failed")


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/test-fleet", description=scripts.fleet.__doc__)
    parser.add_argument("--issuances", type=int, default=50, metavar="NUMBER", help="each renewed once (default: 50)")
    issuances = parser.parse_args().issuances
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # what was made is to be taken away then too
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nfq") as scratch, fleet(Path(scratch)) as made:
        outcome = campaign.run(made, Path(scratch), issuances)
    print(f"\n{_table(outcome)}\n")
    print(
        f"{issuances} certificates issued and {issuances} renewed in {time.monotonic() - begin:.0f} seconds; of "
        f"{outcome.asked} validations {outcome.arrived} reached a server and were answered"
    )
    print(*outcome.faults or ["no fault"], sep="\n")
    return 1 if outcome.faults else 0


def _table(outcome: Outcome) -> str:
    lines = [_HEADER, ["---"] * len(_HEADER), *(_row(outcome, balancer) for balancer in BALANCERS)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _row(outcome: Outcome, balancer: str) -> list[str]:
    names = [name(balancer, family) for family in FAMILIES]
    reached = [sum(server[each] for each in names) for server in outcome.reached]
    clients = outcome.clients[balancer]
    pages = [sum(each.requests for each in clients), sum(len(each.failures) for each in clients)]
    counts = [sum(reached), *reached, *pages]
    return [BALANCERS[balancer], *(f"{each:,}" for each in counts)]


if __name__ == "__main__":
    raise SystemExit(main())
