"""nginx and Apache as distributions run them: in the background, with a program that starts, stops and reloads them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import wait_until

_NGINX = """\
user root;
worker_processes 1;
pid {folder}/run/pid;
events { worker_connections 64; }
http {
    access_log {folder}/run/access.log;
    client_body_temp_path {folder}/run/body;
    proxy_temp_path {folder}/run/proxy;
    fastcgi_temp_path {folder}/run/fastcgi;
    uwsgi_temp_path {folder}/run/uwsgi;
    scgi_temp_path {folder}/run/scgi;
    server {
        listen 80;
        server_name example.com;
        root {folder}/site;
    }
}
"""
_APACHE = """\
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
ServerRoot {folder}/etc
ServerName example.com
PidFile {folder}/run/pid
ErrorLog {folder}/run/error.log
User www-data
Group www-data
Listen 80
<Directory {folder}/site>
    Require all granted
</Directory>
<VirtualHost *:80>
    ServerName example.com
    DocumentRoot {folder}/site
    CustomLog {folder}/run/access.log "%r"
</VirtualHost>
"""
_CONTROL = """\
#!/bin/sh
set -eu
asked=${1-}
case "$*" in
    graceful | *reload) echo "$*" >>{folder}/run/reloads ;;
esac
case "{kind} $asked" in
    "apache graceful") set -- -k graceful ;;
    "apache configtest") set -- -t ;;
    "apache start" | "apache stop") set -- -k "$1" ;;
    "nginx start") set -- ;;
    "nginx stop") set -- -s stop ;;
esac
{program} "$@"
[ "$asked" != stop ] || while [ -e {folder}/run/pid ]; do sleep 0.02; done
"""


@dataclass(frozen=True)
class _Kind:
    """A web server's program, and how it is configured."""

    name: str
    file: str
    program: str
    configuration: str


_NGINX_KIND = _Kind(
    "nginx", "nginx.conf", "nginx -p {folder} -c {folder}/etc/nginx.conf -e {folder}/run/error.log", _NGINX
)
_APACHE_KIND = _Kind("apache", "apache2.conf", "apache2 -d {folder}/etc -f {folder}/etc/apache2.conf", _APACHE)


@dataclass
class Service:
    """A web server in the background, for one name, with its files in a folder."""

    host: Host
    folder: Path
    kind: str

    @property
    def options(self) -> tuple[str, ...]:
        """What Certbot's plugin for it has to be told."""
        places = {"server-root": self.configuration, "ctl": self.control}
        if self.kind == "apache":
            places["challenge-location"] = self.configuration
        return tuple(f"--{self.kind}-{name}={path}" for name, path in places.items())

    @property
    def control(self) -> Path:
        """The program that starts, stops and reloads it."""
        return self.folder / "control"

    @property
    def site(self) -> Path:
        """The folder it serves files from."""
        return self.folder / "site"

    @property
    def configuration(self) -> Path:
        """The folder of its configuration."""
        return self.folder / "etc"

    @property
    def access_log(self) -> str:
        """The requests it has seen."""
        return (self.folder / "run" / "access.log").read_text()

    @property
    def process(self) -> str:
        """The id of its main process, which stays the same when it is reloaded."""
        return (self.folder / "run" / "pid").read_text().strip()

    def reloads(self) -> int:
        """Return how often it was told to reload."""
        return len((self.folder / "run" / "reloads").read_text().splitlines())

    def files(self) -> dict[Path, str]:
        """Return the hash of each file of its configuration."""
        found = sorted(path for path in self.configuration.rglob("*") if path.is_file())
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@contextlib.contextmanager
def _service(host: Host, folder: Path, kind: _Kind) -> Iterator[Service]:
    def fill(text: str) -> str:
        return text.replace("{program}", kind.program).replace("{kind}", kind.name).replace("{folder}", str(folder))

    service = Service(host, folder, kind.name)
    for made in (service.configuration, service.site, folder / "run"):
        made.mkdir(parents=True)
    (folder / "run" / "reloads").touch()
    (service.configuration / kind.file).write_text(fill(kind.configuration))
    service.control.write_text(fill(_CONTROL))
    service.control.chmod(0o755)
    host.run(str(service.control), "start")
    try:
        wait_until(functools.partial(host.listens, 80), f"{kind.name} listens")
        wait_until((folder / "run" / "pid").exists, "its process id is written")
        yield service
    finally:
        if (folder / "run" / "pid").exists():
            host.run(str(service.control), "stop")


def nginx_service(host: Host, folder: Path) -> contextlib.AbstractContextManager[Service]:
    """Run nginx on a host."""
    return _service(host, folder, _NGINX_KIND)


def apache_service(host: Host, folder: Path) -> contextlib.AbstractContextManager[Service]:
    """Run Apache on a host."""
    return _service(host, folder, _APACHE_KIND)
