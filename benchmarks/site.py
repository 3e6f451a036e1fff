"""A site to measure on: a busy client, a server with nginx, and the plugin's interception or not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import hosts
from lab.hosts import Host
from lab.interceptor import interceptor_process
from lab.nginx import Nginx, nginx

DOWNLOAD = "large"
DOWNLOAD_OCTETS = 256 << 20
PAGE = "page"
PAGE_OCTETS = 32 << 10
_QUEUED = 7  # the column of /proc/net/netfilter/nfnetlink_queue that counts all packets ever queued
STATEFUL = ("-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")


@dataclass(frozen=True)
class Effort:
    """How often to measure a thing, and for how long each time."""

    pairs: int
    seconds: int


@dataclass
class Site:
    """The two hosts, and the web server on one of them."""

    client: Host
    server: Host
    nginx: Nginx

    @property
    def url(self) -> str:
        """The site's address."""
        return f"http://{self.server.ipv4}/"

    @contextlib.contextmanager
    def intercepting(self, one_core: bool = False, **settings: Any) -> Iterator[subprocess.Popen[str]]:
        """Run the interception on the server, in a process of its own, as Certbot is one."""
        with interceptor_process(self.server, **settings) as process:
            if one_core:
                for task in Path(f"/proc/{process.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {min(os.sched_getaffinity(0))})
            yield process

    def queued(self) -> int:
        """Return how many packets have been queued since the interception began."""
        return queued_on(self.server)


def queued_on(host: Host) -> int:
    """Return how many packets have been queued on a host since its queue was bound; none, if there is no queue."""
    statistics = host.run("cat", "/proc/net/netfilter/nfnetlink_queue").split()
    return int(statistics[_QUEUED]) if statistics else 0


@contextlib.contextmanager
def site(*, stateful: bool = True) -> Iterator[Site]:
    """Set a site up. Its firewall tracks connections, as most do, or has no rule at all."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nfq")))
        client, server = stack.enter_context(hosts.pair())
        # Connections are opened faster than ports come free again otherwise, which would be what is measured.
        client.run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65535")
        if stateful:
            for program in ("iptables", "ip6tables"):
                server.run(program, *STATEFUL)
        running = stack.enter_context(nginx(server, folder / "nginx"))
        for name, octets in ((DOWNLOAD, DOWNLOAD_OCTETS), (PAGE, PAGE_OCTETS)):
            with (running.folder / "site" / name).open("wb") as file:
                file.truncate(octets)
        yield Site(client, server, running)
