"""Record the program in a terminal, for the documents: python3 -m scripts.pictures.recordings [FOLDER].

Run it as root, on a machine that can run the tests. Each recording is a real run, on a host of the laboratory in a
network namespace. It replaces docs/pictures/NAME.terminal.txt; `python3 -m scripts.pictures` then draws it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import candidates
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from lab import hosts, lineages
from lab.dns import dns
from lab.hosts import Host
from lab.http import ask, request
from lab.interceptor import TOKEN
from lab.nginx import OTHER_TOKEN, nginx
from scripts.pictures import terminal

_PROGRAM = "certbot-standalone-nfq"
_NAME, _OTHER = "www.example.com", "old.example.com"
_WIDE, _NARROW = 110, 60
_FOLDER = Path("/etc/letsencrypt")
_CERTIFICATES = (
    (_NAME, "authenticator = standalone-nfq\nrenew_hook = systemctl reload nginx", 62),
    ("mail.example.com", "authenticator = standalone-nfq", 41),
    (_OTHER, "authenticator = standalone-nfq\nrenew_hook = systemctl reload nginx", 9),
)
"""Of each its name, its options, and the days until it expires."""
_INTERRUPT = b"\x03"


class Terminal:
    """A terminal of some width that a program on a host writes to."""

    def __init__(self, host: Host, columns: int, *arguments: str) -> None:
        self._side, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        command = host.command("setsid", "--ctty", "--wait", sys.executable, "-m", "certbot_standalone_nfq", *arguments)
        self._process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self.shown = f"# {_PROGRAM} {' '.join(arguments)}\n"

    def until(self, words: str) -> None:
        """Wait until the program has written some words."""
        begin = len(self.shown)
        while words not in self.shown[begin:]:
            self.shown += self._read()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._side, _INTERRUPT)

    def end(self) -> str:
        """Wait for the program's end, and return all that was shown."""
        with contextlib.suppress(OSError):  # EIO, once no program has the other side
            while True:
                self.shown += self._read()
        self._process.wait()
        os.close(self._side)
        return self.shown.rstrip() + "\n"

    def _read(self) -> str:
        return os.read(self._side, 4096).decode().replace("\r\n", "\n")


@contextlib.contextmanager
def _site(folder: Path, listen: str = "listen 80; listen [::]:80;") -> Iterator[tuple[Host, Host]]:
    """Run nginx on a host, whose name servers know two names; yield the client's host and that one."""
    with hosts.pair() as (client, server):
        hosts.track_connections(server)
        with nginx(server, folder / "nginx", listen=listen), dns(server) as names:
            names.address(_NAME, server.ipv4, server.ipv6)
            names.caa("example.com", "letsencrypt.org")
            names.address("mail.example.com", server.ipv4)
            names.address(_OTHER, "203.0.113.9")
            names.caa(_OTHER, "ca.example.net; validationmethods=dns-01")
            yield client, server


def _all_is_well(folder: Path) -> str:
    with _site(folder) as (_, server):
        return Terminal(server, _WIDE, "doctor", "-d", _NAME).end()


def _narrow(folder: Path) -> str:
    with _site(folder) as (_, server):
        return Terminal(server, _NARROW, "doctor", "-d", _NAME).end()


def _with_problems(folder: Path) -> str:
    """Examine a server on IPv4 only, a firewall that lets nothing in, a dead run's rules, another machine's name."""
    with _site(folder, "listen 80;") as (_, server):
        server.run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
        server.run("iptables", "-P", "INPUT", "DROP")
        read_end, write_end = os.pipe()
        with server.inside():
            IptablesWriter().install(candidates(Http01Solver.selectors(80))[0], write_end)
        os.close(read_end)
        os.close(write_end)
        return Terminal(server, _WIDE, "doctor", "-d", _NAME, "-d", _OTHER).end()


def _renewals(folder: Path) -> str:
    """Examine three certificates of Certbot's."""
    with _site(folder) as (_, server), _mount_point():
        for name, options, days in _CERTIFICATES:
            now = datetime.now(timezone.utc)
            pem = lineages.certificate((name,), now - timedelta(days=90 - days), now + timedelta(days=days, hours=1))
            lineages.write(Path("/etc/netns") / server.name / _FOLDER.name, name, pem, options)
        return Terminal(server, _WIDE, "doctor", "--renewals").end()


@contextlib.contextmanager
def _mount_point() -> Iterator[None]:
    """Let there be a folder for `ip netns exec` to show the host's own at."""
    if _FOLDER.exists():
        yield
        return
    _FOLDER.mkdir()
    try:
        yield
    finally:
        _FOLDER.rmdir()


def _watch(folder: Path) -> str:
    """Show a token that the server has, one that it does not have, and a connection that a rule refuses."""
    with _site(folder) as (client, server):
        watch = Terminal(server, _WIDE, "watch")
        watch.until("Ctrl-C")
        for address, token in ((server.ipv6, OTHER_TOKEN), (server.ipv4, TOKEN)):
            ask(client, address, request(token, headers=f"Host: {_NAME}\r\nConnection: close\r\n"))
            watch.until("answered")
        server.run(
            "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "REJECT", "--reject-with", "tcp-reset"
        )
        with contextlib.suppress(ConnectionRefusedError):
            client.connect(server.ipv4)
        watch.interrupt()
        return watch.end()


RECORDINGS: dict[str, Callable[[Path], str]] = {
    "doctor": _all_is_well,
    "doctor-narrow": _narrow,
    "doctor-problems": _with_problems,
    "doctor-renewals": _renewals,
    "watch": _watch,
}
"""Each run by the name of its recording."""


def main() -> None:
    """Make all recordings."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else terminal.FOLDER
    for name, record in RECORDINGS.items():
        with tempfile.TemporaryDirectory() as scratch:
            (target / f"{name}{terminal.SUFFIX}").write_text(record(Path(scratch)))


if __name__ == "__main__":
    main()
