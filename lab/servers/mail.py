"""A mail server whose clients begin TLS at once, on port 443, and a load of such clients."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from lab import unpacked
from lab.hosts import Host
from lab.load import Load
from lab.processes import run, wait_until
from lab.servers.web_server import WebServer
from lab.systemd import systemd
from lab.tls import VISITOR, client_context, write_certificate

_PORT = 443
_CLIENTS = 4
_CONFIGURE = """\
postconf -M '443/inet = 443 inet n - y - - smtpd -o smtpd_tls_wrappermode=yes'
postconf -e 'smtpd_tls_cert_file = /etc/ssl/{certificate}' 'smtpd_tls_key_file = /etc/ssl/{key}'
postconf -e 'maillog_file = /var/log/mail.log'
"""


@contextlib.contextmanager
def postfix(host: Host, folder: Path) -> Iterator[WebServer]:
    """Run Postfix, by a systemd of its own."""
    folder.mkdir()
    with systemd(host, folder / "disk", unpacked.unpack(("postfix",), folder)) as made:
        unpacked.settle(made, "postfix")
        files = write_certificate(made.disk / "etc/ssl", "the server", x509.DNSName("example.com"))
        names = dict(zip(("certificate", "key"), (each.name for each in files)))
        run(made.command("sh", "-euc", _CONFIGURE.format(**names)))
        made.control("start", "postfix")
        wait_until(lambda: host.listens(_PORT), "Postfix listens")
        version = run(made.command("postconf", "-h", "mail_version")).strip()
        configuration = [made.disk / "etc/postfix" / name for name in ("main.cf", "master.cf")]
        log = made.disk / "var/log/mail.log"
        yield WebServer(version, [], configuration, log, log)
        made.control("stop", "postfix")


@contextlib.contextmanager
def greeted(client: Host, address: str) -> Iterator[Load]:
    """Connect over and over, from several threads, to be greeted and to say goodbye, as long as the context lasts."""
    counted, guard, ended = Load(), threading.Lock(), threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            failed = not _is_greeted(client, address)
            with guard:
                counted.requests += 1
                counted.failures += failed

    threads = [threading.Thread(target=go_on) for _ in range(_CLIENTS)]
    for each in threads:
        each.start()
    try:
        yield counted
    finally:
        ended.set()
        for each in threads:
            each.join()


def _is_greeted(client: Host, address: str) -> bool:
    try:
        with (
            client.connect(address, _PORT) as connection,
            client_context(VISITOR).wrap_socket(connection, server_hostname="example.com") as tls,
        ):
            greeting = tls.recv(4096)
            tls.sendall(b"QUIT\r\n")
            return greeting.startswith(b"220 ") and tls.recv(4096).startswith(b"221 ")
    except OSError:
        return False
