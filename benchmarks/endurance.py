"""Long runs: a million requests of bystanders, and thousands of starts and stops."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from benchmarks.site import Site
from benchmarks.table import Row
from certbot_standalone_nfq.capture.choice import open_capture
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.settings import Settings
from lab import hosts
from lab.http import ask, body
from lab.interceptor import KEY_AUTHORIZATION, VARIANTS, intercepting
from lab.load import load
from lab.processes import wait_until

_FAMILIES = ("ipv4", "ipv6")
_FIRST_CYCLES = 10


def requests_meanwhile(site: Site, requests: int) -> Iterator[Row]:
    """Yield what became of so many requests while interceptions came and went, each answering over both families."""
    interceptions = 0
    with load(site.client, site.url) as pages:
        while site.nginx.folder.joinpath("access.log").stat().st_size < requests * _octets_a_line(site):
            with intercepting(site.server):
                for family in _FAMILIES:
                    answer = body(ask(site.client, getattr(site.server, family)))
                    if answer != KEY_AUTHORIZATION:
                        raise RuntimeError(f"not what was to be answered: {answer}")
            interceptions += 1
    yield Row("endurance: bystanders' requests", "", pages.requests, at_least=requests)
    yield Row("endurance: of which failed", "", pages.failures, at_most=0)
    yield Row("endurance: interceptions meanwhile", "", interceptions)
    yield Row("endurance: challenges answered", "", interceptions * len(_FAMILIES))


def cycles(count: int) -> Iterator[Row]:
    """Yield what is left after so many captures were opened and closed: it should be nothing.

    By each firewall in turn, by our own client of the queue: fnfqueue's buffers wait for Python's collector.
    What a few cycles before the first that counts leave is what a process needs once.
    """
    with hosts.host("e") as host, host.inside():
        before = host.rules()
        _cycle(_FIRST_CYCLES)
        descriptors, memory = _descriptors(), _memory()
        _cycle(count)
        wait_until(lambda: not host.run("cat", "/proc/net/netfilter/nfnetlink_queue"), "the queues are gone")
        changed = host.rules() != before
        yield Row("endurance: cycles of all the rules", "", count)
        yield Row("endurance: changes of the rules after them", "", changed, at_most=0)
        yield Row("endurance: descriptors left open", "", _descriptors() - descriptors, at_most=0)
        yield Row("endurance: growth of memory", "MiB", _memory() - memory, at_most=1)


def _cycle(times: int) -> None:
    for cycle in range(times):
        settings = Settings(capture=VARIANTS[cycle % len(VARIANTS)], queue_client="netlink")
        open_capture(settings, Http01Solver.selectors(80), take_snapshot(), contextlib.ExitStack()).close()


def _octets_a_line(site: Site) -> float:
    """Return the length of a line of nginx's log, all of them being alike."""
    with (site.nginx.folder / "access.log").open("rb") as log:
        return len(log.readline()) or float("inf")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory() -> float:
    """Return the most memory this process has ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
