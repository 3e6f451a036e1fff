"""What the plugin costs a run of Certbot: loading its entry point, `perform` from cold, `cleanup`.

Run as root, from the repository's root: `python -m benchmarks.start_and_stop`. Each figure is the median of as many
fresh processes as --rounds says, in a network namespace of its own with one pending challenge.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from tests.lab import hosts

_LOAD = """
import time
import certbot.main, certbot.plugins.common
from certbot._internal.plugins import standalone
begin = time.perf_counter()
import certbot_standalone_nfq.authenticator
print((time.perf_counter() - begin) * 1000)
"""

_PERFORM = """
import json, time, types
from certbot_standalone_nfq.authenticator import Authenticator
options = {"firewall": "auto", "queue_num": None, "mark": None, "queue_client": "auto", "selection": "auto"}
config = types.SimpleNamespace(http01_port=80, **{f"standalone_nfq_{name}": value for name, value in options.items()})
chall = types.SimpleNamespace(encode=lambda _: "token")
achall = types.SimpleNamespace(chall=chall, response_and_validation=lambda: (None, "token.thumbprint"))
authenticator = Authenticator(config, "standalone-nfq")
times = [time.perf_counter()]
authenticator.prepare()
times.append(time.perf_counter())
authenticator.perform([achall])
times.append(time.perf_counter())
authenticator.cleanup([achall])
times.append(time.perf_counter())
print(json.dumps([(end - begin) * 1000 for begin, end in zip(times, times[1:])]))
"""

_DROP_CACHES = "sync; echo 3 > /proc/sys/vm/drop_caches"


def _python(program: str, *, cold_disk: bool = False) -> str:
    if cold_disk:
        subprocess.run(["/bin/sh", "-c", _DROP_CACHES], check=True)
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def _report(name: str, milliseconds: list[float], at_most: object = "") -> None:
    print(f"{name:44} {statistics.median(milliseconds):8.1f} {max(milliseconds):8.1f} {at_most!s:>8}")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = range(parser.parse_args().rounds)
    loads = [float(_python(_LOAD)) for _ in rounds]
    with hosts.host("b") as host, host.inside():
        warm = [json.loads(_python(_PERFORM)) for _ in rounds]
        cold = [json.loads(_python(_PERFORM, cold_disk=True)) for _ in rounds]
    print(f"{'milliseconds':44} {'median':>8} {'worst':>8} {'at most':>8}")
    _report("loading the entry point", loads, 10)
    _report("prepare", [each[0] for each in warm])
    _report("perform, modules in the disk cache", [each[1] for each in warm], 800)
    _report("perform, nothing in the disk cache", [each[1] for each in cold], 800)
    _report("cleanup", [each[2] for each in warm], 200)


if __name__ == "__main__":
    main()
