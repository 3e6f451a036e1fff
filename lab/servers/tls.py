"""Servers that have TCP port 443, as Debian packages them, each with a certificate of its own and a plausible site."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cryptography import x509

from lab import nginx as lab_nginx
from lab.hosts import Host
from lab.servers.mail import postfix
from lab.servers.web_server import PAGE, WebServer, make_site, package_version, serving, write
from lab.tls import listen, write_certificate

PORT = 443
_PLAIN, _BEHIND = 8080, 8443

_APACHE = """\
ServerRoot @folder@
DefaultRuntimeDir @folder@
PidFile @folder@/apache2.pid
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
User www-data
Group www-data
StartServers 2
ServerLimit 2
ThreadsPerChild 25
MaxRequestWorkers 50
MinSpareThreads 5
MaxSpareThreads 50
ServerName example.com
Listen 0.0.0.0:443 https
Listen [::]:443 https
ErrorLog @folder@/error.log
LogLevel info
DocumentRoot @folder@/site
SSLEngine on
SSLCertificateFile @certificate@
SSLCertificateKeyFile @key@
"""

_HAPROXY = """\
global
    log stdout format raw local0
    maxconn 1000
defaults
    log global
    timeout connect 5s
    timeout client 75s
    timeout server 75s
frontend web
    mode @mode@
    option @log@
    bind 0.0.0.0:443 @options@
    bind [::]:443 v6only @options@
    default_backend site
backend site
    mode @mode@
    server nginx 127.0.0.1:@port@
"""

_CADDY = """\
{
	admin off
	auto_https disable_redirects
}
:443 {
	tls @certificate@ @key@
	root * @folder@/site
	file_server
}
"""

_STUNNEL = """\
foreground = yes
pid =
[four]
accept = 0.0.0.0:443
connect = 127.0.0.1:@port@
cert = @certificate@
key = @key@
[six]
accept = :::443
connect = 127.0.0.1:@port@
cert = @certificate@
key = @key@
socket = a:IPV6_V6ONLY=yes
"""

_NODE = """\
const fs = require("fs"), https = require("https");
const page = "@page@\\n";
const files = { cert: fs.readFileSync("@certificate@"), key: fs.readFileSync("@key@") };
const server = https.createServer(files, (request, response) => {
  response.writeHead(200, { "Content-Type": "text/plain", "Content-Length": page.length });
  response.end(page);
});
server.on("tlsClientError", (error) => console.error(`a client: ${error.code}`));
server.listen(443, "::");
"""

_PYTHON = """\
import http.server, socket, ssl
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128
    def get_request(self):
        connection, address = self.socket.accept()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("@certificate@", "@key@")
make = http.server.SimpleHTTPRequestHandler
Server(("::", 443), lambda *each: make(*each, directory="@folder@/site")).serve_forever()
"""


def _with_files(folder: Path, name: str, template: str, **values: object) -> Path:
    """Make the site, the certificate and the configuration, which is returned."""
    make_site(folder)
    folder.chmod(0o755)
    certificate, key = write_certificate(folder, "the server", x509.DNSName("example.com"))
    return write(folder / name, template, folder=folder, certificate=certificate, key=key, **values)


@contextlib.contextmanager
def _serving(host: Host, folder: Path, package: str, configuration: Path, *command: str) -> Iterator[WebServer]:
    errors = folder / "error.log"
    with serving(host, errors, *command, port=PORT) as process:
        yield WebServer(package_version(package), [process], [configuration], errors, errors)


@contextlib.contextmanager
def nginx(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run nginx, which tells more than by default."""
    with lab_nginx.nginx(host, folder, PORT, listen(folder / "tls"), log_level="info") as running:
        errors = folder / "error.log"
        yield WebServer(
            package_version("nginx-light"), [running.process], [folder / "nginx.conf"], folder / "access.log", errors
        )


def apache(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run Apache."""
    configuration = _with_files(folder, "apache2.conf", _APACHE)
    return _serving(host, folder, "apache2-bin", configuration, "apache2", "-f", str(configuration), "-DFOREGROUND")


@contextlib.contextmanager
def haproxy(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run HAProxy, which ends TLS in front of nginx."""
    configuration = _with_files(
        folder, "haproxy.cfg", _HAPROXY, mode="http", log="httplog", port=_PLAIN, options=f"ssl crt {folder}/both.pem"
    )
    (folder / "both.pem").write_bytes((folder / "certificate.pem").read_bytes() + (folder / "key.pem").read_bytes())
    command = ("haproxy", "-W", "-db", "-f", str(configuration))
    with (
        lab_nginx.nginx(host, folder / "behind", _PLAIN, f"listen 127.0.0.1:{_PLAIN};"),
        _serving(host, folder, "haproxy", configuration, *command) as running,
    ):
        yield running


@contextlib.contextmanager
def haproxy_tcp(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run HAProxy, which passes connections to nginx, whose TLS it is."""
    configuration = _with_files(folder, "haproxy.cfg", _HAPROXY, mode="tcp", log="tcplog", port=_BEHIND, options="")
    command = ("haproxy", "-W", "-db", "-f", str(configuration))
    with (
        lab_nginx.nginx(host, folder / "behind", _BEHIND, listen(folder / "behind-tls", _BEHIND)),
        _serving(host, folder, "haproxy", configuration, *command) as running,
    ):
        yield running


def caddy(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run Caddy."""
    configuration = _with_files(folder, "Caddyfile", _CADDY)
    command = ("env", f"HOME={folder}", "caddy", "run", "--adapter", "caddyfile", "--config", str(configuration))
    return _serving(host, folder, "caddy", configuration, *command)


@contextlib.contextmanager
def stunnel(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run stunnel in front of nginx."""
    configuration = _with_files(folder, "stunnel.conf", _STUNNEL, port=_PLAIN)
    with (
        lab_nginx.nginx(host, folder / "behind", _PLAIN, f"listen 127.0.0.1:{_PLAIN};"),
        _serving(host, folder, "stunnel4", configuration, "stunnel4", str(configuration)) as running,
    ):
        yield running


def node(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run a server of a few lines of JavaScript."""
    program = _with_files(folder, "server.js", _NODE, page=PAGE.strip())
    return _serving(host, folder, "nodejs", program, "node", str(program))


def python(host: Host, folder: Path) -> AbstractContextManager[WebServer]:
    """Run a server of a few lines of Python, with a thread for each connection."""
    program = _with_files(folder, "server.py", _PYTHON)
    return _serving(host, folder, "python3", program, "/usr/bin/python3", str(program))


TLS_SERVERS: dict[str, Callable[[Host, Path], AbstractContextManager[WebServer]]] = {
    "nginx": nginx,
    "Apache": apache,
    "HAProxy, ending TLS": haproxy,
    "HAProxy, TCP mode": haproxy_tcp,
    "Caddy": caddy,
    "stunnel": stunnel,
    "Node's https": node,
    "Python's ssl": python,
    "Postfix": postfix,
}
"""What runs each on a host, in a folder that it makes."""
