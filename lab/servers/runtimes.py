"""Web servers that are programs of a language's runtime: Tomcat, Node, Python's http.server."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.hosts import Host
from lab.servers.web_server import PAGE, WebServer, make_site, package_version, serving, write

_TOMCAT_HOME = Path("/usr/share/tomcat10")
_TOMCAT_PORT = 8080
_TOMCAT = """\
<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1">
  <Service name="Catalina">
    <Connector port="@port@" protocol="HTTP/1.1" connectionTimeout="20000" keepAliveTimeout="75000"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false">
        <Valve className="org.apache.catalina.valves.AccessLogValve" directory="logs" prefix="access" suffix=".log"
               fileDateFormat="" pattern="common" buffered="false"/>
      </Host>
    </Engine>
  </Service>
</Server>
"""
_JAVA_OPTIONS = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"

_NODE = """\
const http = require("http");
const page = "@page@\\n";
const server = http.createServer((request, response) => {
  console.log(`${request.socket.remoteAddress} "${request.method} ${request.url}"`);
  response.writeHead(200, { "Content-Type": "text/plain", "Content-Length": page.length });
  response.end(page);
});
server.on("clientError", (error, socket) => {
  console.error(`a client: ${error.code}`);
  socket.destroy();
});
server.keepAliveTimeout = 75000;
server.listen(80, "::");
"""

_NODE_TRACE = "a client: ECONNRESET"
_PYTHON_TRACE = "|".join(
    [
        "-{40}",
        "Exception occurred during processing of request from ",
        r"\('[\da-f:.]+', \d+, 0, 0\)",
        r"Traceback \(most recent call last\):",
        r' {2}File "/usr/lib/python3\.\d+/(socketserver|http/server|socket)\.py", line \d+, in \w+',
        r" {4}\w[\w.()=* ,]*",
        r" {4} *[~^]+",
        r"ConnectionResetError: \[Errno 104\] Connection reset by peer",
    ]
)


@contextlib.contextmanager
def _redirected(host: Host, port: int) -> Iterator[None]:
    """Let a port that needs no root be reached as port 80."""
    rule = ("PREROUTING", "-p", "tcp", "--dport", "80", "-j", "REDIRECT", "--to-ports", str(port))
    with contextlib.ExitStack() as stack:
        for program in ("iptables", "ip6tables"):
            host.run(program, "-t", "nat", "-A", *rule)
            stack.callback(host.run, program, "-t", "nat", "-D", *rule)
        yield


@contextlib.contextmanager
def tomcat(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run Tomcat at a port of its own, which the firewall makes port 80."""
    for name in ("conf", "logs", "temp", "webapps"):
        (folder / name).mkdir(parents=True)
    make_site(folder / "webapps").rename(folder / "webapps" / "ROOT")
    configuration = write(folder / "conf" / "server.xml", _TOMCAT, port=_TOMCAT_PORT)
    shutil.copy(_TOMCAT_HOME / "etc" / "web.xml", folder / "conf")
    errors = folder / "error.log"
    environment = [f"CATALINA_HOME={_TOMCAT_HOME}", f"CATALINA_BASE={folder}", f"JAVA_OPTS={_JAVA_OPTIONS}"]
    command = ("env", *environment, str(_TOMCAT_HOME / "bin" / "catalina.sh"), "run")
    with _redirected(host, _TOMCAT_PORT), serving(host, errors, *command, port=_TOMCAT_PORT) as process:
        yield WebServer(
            version=package_version("tomcat10"),
            processes=[process],
            configuration=[configuration, folder / "conf" / "web.xml"],
            access=folder / "logs" / "access.log",
            errors=errors,
        )


@contextlib.contextmanager
def node(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run a server of a few lines of JavaScript."""
    folder.mkdir()
    errors = folder / "output.log"
    program = write(folder / "server.js", _NODE, page=PAGE.strip())
    with serving(host, errors, "node", str(program)) as process:
        yield WebServer(
            version=package_version("nodejs"),
            processes=[process],
            configuration=[program],
            access=errors,
            errors=errors,
            traces=[_NODE_TRACE],
        )


@contextlib.contextmanager
def python(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run the server that comes with Python, with a thread for each connection, which it keeps."""
    site = make_site(folder)
    errors = folder / "output.log"
    options = ("--protocol", "HTTP/1.1", "--bind", "::", "--directory", str(site))
    with serving(host, errors, "/usr/bin/python3", "-m", "http.server", *options, "80") as process:
        yield WebServer(
            version=package_version("python3"),
            processes=[process],
            configuration=[site / "index.html"],
            access=errors,
            errors=errors,
            traces=[f"({_PYTHON_TRACE})*"],  # its threads write on each other's lines
        )
