"""The recipe for a server in a container whose port is published, docs/recipes/docker.md, by its own commands."""

from __future__ import annotations

import contextlib
import functools
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import hosts
from lab.certbot import Certbot
from lab.documents import blocks
from lab.hosts import Host
from lab.http import PAGE_REQUEST, ask
from lab.load import load
from lab.pebble import pebble
from lab.processes import wait_until
from scripts.container.engine import Engine, on_disk
from scripts.distros.rootfs import Root

_IMAGE, _NAME = "docker.io/library/nginx", "example.com"
_START = "nginx -g 'daemon off;'"
"""What the image of that name does by itself; here it is made of Debian's package."""
_PROCESSES = "docker exec web sh -c 'cd /proc; grep -l \"^Name:.nginx\" [0-9]*/status'"
_LOG = "docker exec web cat /var/log/nginx/access.log"


@dataclass
class HostsCertbot(Certbot):
    """Certbot beside the engine, so that its hooks may call docker."""

    engine: Engine

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments."""
        words = super().command(*arguments)
        return self.engine.command(shlex.join(words[words.index("env") :]), self.host)


def follow(made: Engine, root: Root, folder: Path) -> None:
    """Get a certificate past the container and renew it; fail if its server notices, or does not load each new one."""
    begin = time.monotonic()
    root.install("nginx-light")
    made.take(root, _IMAGE)
    start, command = (each.strip() for each in blocks("recipes/docker.md", "A Docker host whose port 80 is published"))
    with contextlib.ExitStack() as stack:
        client, server = stack.enter_context(hosts.pair())
        authority = stack.enter_context(pebble(client, folder / "authority"))
        authority.resolve(_NAME, ipv4=server.ipv4)
        certbot = HostsCertbot(server, authority, folder / "host", made)
        (certbot.folder / "etc/letsencrypt").mkdir(parents=True)
        made.run(f"{on_disk(start, certbot.folder)} {_START}", server)
        stack.callback(made.run, "docker rm --force web", server)
        wait_until(functools.partial(_is_served, client, server.ipv4), "the container serves the port")
        before = server.rules()
        with load(client, f"http://{server.ipv4}/", handshakes=True) as counted:
            _reload_by(made, functools.partial(certbot.run, *shlex.split(command)[1:], *certbot.account()))
            _reload_by(made, certbot.renew)
        if counted.failures or server.rules() != before or "acme-challenge" in made.run(_LOG):
            raise RuntimeError("the container's clients were disturbed, it saw a challenge, or rules are left")
    print(
        f"past a container's published port: issued, renewed, loaded; {counted.requests} requests meanwhile, "
        f"{counted.failures} failed; {time.monotonic() - begin:.0f} seconds"
    )


def _is_served(client: Host, address: str) -> bool:
    with contextlib.suppress(OSError):
        return b"nginx" in ask(client, address, PAGE_REQUEST)
    return False


def _reload_by(made: Engine, run: Callable[[], subprocess.CompletedProcess[str]]) -> None:
    """Run Certbot; nginx then has new workers, but its first process is the same."""
    before = made.run(_PROCESSES).split()
    result = run()
    if result.returncode:
        raise RuntimeError(result.stdout)
    wait_until(lambda: set(made.run(_PROCESSES).split()) & set(before) == {before[0]}, "nginx has reloaded")
