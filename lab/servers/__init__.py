"""Web servers of many kinds, as Debian packages them, each with a plausible site, and run by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lab.hosts import Host
from lab.servers import file_servers, proxies, runtimes
from lab.servers.web_server import WebServer

SERVERS: dict[str, Callable[[Host, Path], AbstractContextManager[WebServer]]] = {
    "nginx": file_servers.nginx,
    "Apache, all redirected to https": file_servers.apache,
    "lighttpd": file_servers.lighttpd,
    "Caddy": file_servers.caddy,
    "HAProxy, most redirected to https": proxies.haproxy,
    "Varnish": proxies.varnish,
    "Squid as accelerator": proxies.squid,
    "Tomcat, by REDIRECT": runtimes.tomcat,
    "Node": runtimes.node,
    "Python's http.server": runtimes.python,
}
"""What runs each on a host, in a folder that it makes."""
