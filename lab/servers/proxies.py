"""Servers in front of a site that nginx has: HAProxy, Varnish, Squid."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from lab.hosts import Host
from lab.http import PAGE_REQUEST, ask
from lab.nginx import Nginx, nginx
from lab.processes import wait_until
from lab.servers.web_server import SITE_PORT, WebServer, give_logs, package_version, serving, write

_HAPROXY = """\
global
    log stdout format raw local0
    maxconn 1000
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 75s
    timeout server 75s
frontend web
    bind 0.0.0.0:80
    bind [::]:80 v6only
    http-request redirect scheme https code 301 unless { path / }
    default_backend site
backend site
    server nginx 127.0.0.1:@port@
"""

_VARNISH = """\
vcl 4.1;
backend default {
    .host = "127.0.0.1";
    .port = "@port@";
}
"""

_SQUID = """\
http_port 80 accel defaultsite=example.com no-vhost
cache_peer 127.0.0.1 parent @port@ 0 no-query originserver name=site
http_access allow all
cache_peer_access site allow all
never_direct allow all
access_log stdio:@folder@/access.log
cache_log @folder@/error.log
pid_filename @folder@/squid.pid
coredump_dir @folder@
cache_effective_user proxy
cache_mem 16 MB
max_filedescriptors 1024
pinger_enable off
shutdown_lifetime 0 seconds
strip_query_terms off
visible_hostname example.com
"""

_HAPROXY_TRACE = r'\S+ \[\S+\] web web/<NOSRV> -1/-1/-1/-1/\d+ 400 0 - - CR-- \S+ 0/0 "<BADREQ>"'
_SQUID_TRACE = r"\S+ +\d+ \S+ NONE_NONE/000 0 - error:transaction-end-before-headers - HIER_NONE/- -"


def _site(host: Host, folder: Path) -> AbstractContextManager[Nginx]:
    return nginx(host, folder / "behind", SITE_PORT, f"listen 127.0.0.1:{SITE_PORT};")


@contextlib.contextmanager
def haproxy(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run HAProxy; whatever is asked for, but the first page, is at https."""
    folder.mkdir()
    errors = folder / "error.log"
    configuration = write(folder / "haproxy.cfg", _HAPROXY, port=SITE_PORT)
    command = ("haproxy", "-W", "-db", "-f", str(configuration))
    with _site(host, folder) as site, serving(host, errors, *command) as process:
        yield WebServer(
            version=package_version("haproxy"),
            processes=[process, site.process],
            configuration=[configuration],
            access=errors,
            errors=errors,
            traces=[_HAPROXY_TRACE],
        )


@contextlib.contextmanager
def varnish(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run Varnish, and the program that writes its access log."""
    folder.mkdir()
    access, errors = folder / "access.log", folder / "error.log"
    configuration = write(folder / "default.vcl", _VARNISH, port=SITE_PORT)
    place = ("-n", str(folder / "varnish"))
    options = ("-F", "-a", ":80", "-f", str(configuration), "-s", "malloc,64m", "-p", "timeout_idle=75")
    with (
        _site(host, folder) as site,
        serving(host, errors, "varnishd", *place, *options) as process,
        serving(host, errors, "varnishncsa", "-a", "-w", str(access), *place) as log,
    ):
        # It begins with what comes after it has found the shared memory.
        wait_until(
            lambda: ask(host, "127.0.0.1", PAGE_REQUEST) and access.exists() and access.stat().st_size,
            "requests are logged",
        )
        yield WebServer(
            version=package_version("varnish"),
            processes=[process, log, site.process],
            configuration=[configuration],
            access=access,
            errors=errors,
        )


@contextlib.contextmanager
def squid(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run Squid, as an accelerator."""
    folder.mkdir()
    errors = give_logs(folder, "proxy")
    configuration = write(folder / "squid.conf", _SQUID, folder=folder, port=SITE_PORT)
    with (
        _site(host, folder) as site,
        serving(host, errors, "squid", "--foreground", "-f", str(configuration)) as process,
    ):
        wait_until(lambda: "storeLateRelease" in errors.read_text(), "the last of the start is logged")
        yield WebServer(
            version=package_version("squid"),
            processes=[process, site.process],
            configuration=[configuration],
            access=folder / "access.log",
            errors=errors,
            traces=[_SQUID_TRACE],
        )
