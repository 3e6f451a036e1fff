"""A real nginx, as busy or idle as its clients make it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import running, wait_until

_CONFIGURATION = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log {log_level};
events {{ worker_connections 2048; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    keepalive_timeout 75;
    keepalive_requests 1000000;
    server {{
        {listen}
        root {folder}/site;
        location = /discard {{
            return 204;
        }}
        location = /upload {{
            client_body_in_file_only on;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_pass http://127.0.0.1:8099/;
        }}
    }}
    server {{
        listen 127.0.0.1:8099;
        return 204;
    }}
}}
"""
PAGE = "the web server's own page\n"
OTHER_TOKEN = "other-client-of-this-machine_0123456789-abcdef"
OTHER_ANSWER = "what another ACME client put here\n"


@dataclass
class Nginx:
    """A running nginx."""

    host: Host
    folder: Path
    process: subprocess.Popen[str]

    @property
    def access_log(self) -> str:
        """The requests it has seen."""
        return (self.folder / "access.log").read_text()

    def requests(self) -> int:
        """Return how many requests it has logged, which it does a moment after answering."""
        return len(self.access_log.splitlines())

    @property
    def error_log(self) -> str:
        """What it complained about."""
        return (self.folder / "error.log").read_text()

    def identity(self) -> tuple[int, str, str, str]:
        """Return what must not change: its processes, its configuration, its errors, whether it is alive."""
        configuration = hashlib.sha256((self.folder / "nginx.conf").read_bytes()).hexdigest()
        return self.process.pid, (self.folder / "nginx.pid").read_text(), configuration, str(self.process.poll())


@contextlib.contextmanager
def nginx(host: Host, folder: Path, port: int = 80, listen: str = "", log_level: str = "notice") -> Iterator[Nginx]:
    """Run nginx on a host, with its files in a folder; ready when the context begins."""
    challenges = folder / "site" / ".well-known" / "acme-challenge"
    challenges.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "site" / "index.html").write_text(PAGE)
    (challenges / OTHER_TOKEN).write_text(OTHER_ANSWER)
    listen = listen or f"listen {port} backlog=1024; listen [::]:{port} backlog=1024;"
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, listen=listen, log_level=log_level))
    command = host.command("nginx", "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log"))
    with running(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(functools.partial(host.listens, port), "nginx listens")
        wait_until((folder / "nginx.pid").exists, "nginx wrote its process id")
        yield Nginx(host, folder, process)
