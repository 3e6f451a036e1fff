"""Web servers that have their site in a folder: nginx, Apache, lighttpd, Caddy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from lab import nginx as lab_nginx
from lab.hosts import Host
from lab.servers.web_server import WebServer, give_logs, make_site, package_version, serving, write

_APACHE = """\
ServerRoot @folder@
DefaultRuntimeDir @folder@
PidFile @folder@/apache2.pid
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule reqtimeout_module /usr/lib/apache2/modules/mod_reqtimeout.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
User www-data
Group www-data
# As many processes as there will ever be, from the start on.
StartServers 2
ServerLimit 2
ThreadsPerChild 25
MaxRequestWorkers 50
MinSpareThreads 5
MaxSpareThreads 50
KeepAliveTimeout 75
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
ServerName example.com
Listen 0.0.0.0:80
Listen [::]:80
ErrorLog @folder@/error.log
LogLevel info
CustomLog @folder@/access.log "%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\""
DocumentRoot @folder@/site
RewriteEngine on
RewriteCond %{HTTPS} off
RewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]
"""

_LIGHTTPD = """\
server.modules = ("mod_indexfile", "mod_accesslog", "mod_staticfile")
server.document-root = "@folder@/site"
server.errorlog = "@folder@/error.log"
server.pid-file = "@folder@/lighttpd.pid"
server.username = "www-data"
server.groupname = "www-data"
server.port = 80
server.bind = "0.0.0.0"
$SERVER["socket"] == "[::]:80" { }
server.max-keep-alive-idle = 75
accesslog.filename = "@folder@/access.log"
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html")
"""

_CADDY = """\
{
	admin off
	auto_https off
}
:80 {
	root * @folder@/site
	file_server
	log {
		output file @folder@/access.log
	}
}
"""

_NGINX_TRACE = (
    r"\S+ \S+ \[info\] .*recv\(\) failed \(104: Connection reset by peer\) while waiting for request, client: .*"
)


@contextlib.contextmanager
def nginx(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run nginx; it tells more than by default, so that a client that hangs up is seen in its log."""
    with lab_nginx.nginx(host, folder, log_level="info") as running:
        yield WebServer(
            version=package_version("nginx-light"),
            processes=[running.process],
            configuration=[folder / "nginx.conf"],
            access=folder / "access.log",
            errors=folder / "error.log",
            traces=[_NGINX_TRACE],
        )


@contextlib.contextmanager
def _one_process(
    host: Host, folder: Path, package: str, configuration: Path, errors: Path, command: Sequence[str]
) -> Iterator[WebServer]:
    """Run a server that has one configuration file and its access log in the folder."""
    with serving(host, errors, *command) as process:
        yield WebServer(
            version=package_version(package),
            processes=[process],
            configuration=[configuration],
            access=folder / "access.log",
            errors=errors,
        )


def apache(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run Apache; whatever is asked for is at https."""
    make_site(folder)
    configuration = write(folder / "apache2.conf", _APACHE, folder=folder)
    command = ("apache2", "-f", str(configuration), "-DFOREGROUND")
    return _one_process(host, folder, "apache2-bin", configuration, folder / "error.log", command)


def lighttpd(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run lighttpd."""
    make_site(folder)
    errors = give_logs(folder, "www-data")
    configuration = write(folder / "lighttpd.conf", _LIGHTTPD, folder=folder)
    command = ("lighttpd", "-D", "-f", str(configuration))
    return _one_process(host, folder, "lighttpd", configuration, errors, command)


def caddy(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run Caddy."""
    make_site(folder)
    configuration = write(folder / "Caddyfile", _CADDY, folder=folder)
    command = ("env", f"HOME={folder}", "caddy", "run", "--adapter", "caddyfile", "--config", str(configuration))
    return _one_process(host, folder, "caddy", configuration, folder / "error.log", command)
