"""What the plugin costs a run of Certbot: loading its entry point, `perform` from cold, `cleanup`, memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.table import Row
from lab import hosts

_PROGRAM = """
import argparse, json, resource, time, types
import certbot.main, certbot.plugins.common
from certbot._internal.plugins import standalone
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
figures, alone = {}, peak()
times = [time.perf_counter()]
from certbot_standalone_nfq.authenticator import Authenticator
times.append(time.perf_counter())
parser = argparse.ArgumentParser()
parser.set_defaults(http01_port=80)
Authenticator.inject_parser_options(parser, "standalone-nfq")
chall = types.SimpleNamespace(encode=lambda _: "token")
achall = types.SimpleNamespace(
    chall=chall, domain="example.com", response_and_validation=lambda: (None, "token.thumbprint")
)
authenticator = Authenticator(parser.parse_args([]), "standalone-nfq")
for step in (authenticator.prepare, lambda: authenticator.perform([achall]), lambda: authenticator.cleanup([achall])):
    step()
    times.append(time.perf_counter())
milliseconds = [(end - begin) * 1000 for begin, end in zip(times, times[1:])]
print(json.dumps({**dict(zip(("load", "prepare", "perform", "cleanup"), milliseconds)), "alone": alone, "all": peak()}))
"""
_DROP_CACHES = "sync; echo 3 > /proc/sys/vm/drop_caches"


def measure(rounds: int) -> Iterator[Row]:
    """Yield the figures, each the median of as many fresh processes, in a network namespace of its own."""
    with hosts.host("b") as host, host.inside():
        warm = [_run() for _ in range(rounds)]
        cold = [_run(cold_disk=True) for _ in range(rounds)]
    yield _row("loading the entry point", [each["load"] for each in warm], 10)
    yield _row("prepare", [each["prepare"] for each in warm])
    yield _row("perform, modules in the disk cache", [each["perform"] for each in warm], 800)
    yield _row("perform, nothing in the disk cache", [each["perform"] for each in cold], 800)
    yield _row("cleanup", [each["cleanup"] for each in warm], 200)
    without, within = (statistics.median(each[key] for each in warm) for key in ("alone", "all"))
    yield Row("(g) peak memory of the process", "MiB", within, without, within / without)


def _run(*, cold_disk: bool = False) -> dict[str, float]:
    if cold_disk:
        subprocess.run(["/bin/sh", "-c", _DROP_CACHES], check=True)
    output = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def _row(name: str, milliseconds: list[float], at_most: float | None = None) -> Row:
    return Row(f"(g) {name}", "ms", statistics.median(milliseconds), at_most=at_most)
