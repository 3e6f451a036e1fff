"""The watch, as a program of its own on a real host."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from scapy.utils import rdpcap

from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.cli.watch import MAX_WAITING, Watch
from certbot_standalone_nfq.diagnosis.attempts import TappedSegment
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Connection
from lab.hosts import Host
from lab.http import CLOSE, PAGE_REQUEST, ask, request
from lab.interceptor import HTTP01_PORT, KEY_AUTHORIZATION, TOKEN, intercepting
from lab.nginx import OTHER_TOKEN, nginx
from lab.processes import UNMEASURED, end, running
from lab.tls import VISITOR, certificate_at, listen

COMMAND = (sys.executable, "-m", "certbot_standalone_nfq", "watch")


class Watching:
    """The running command, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.printed = self.line()

    def line(self) -> str:
        """Return the next line, waiting for it."""
        assert self._process.stdout
        return self._process.stdout.readline().rstrip("\n")

    def closing_table(self) -> list[str]:
        """Interrupt it, and return what it prints then."""
        assert self._process.stdout
        self._process.send_signal(signal.SIGINT)
        rest = self._process.stdout.read().splitlines()
        assert self._process.wait(10) == 0
        return rest


@contextlib.contextmanager
def watching(host: Host, *arguments: str) -> Iterator[Watching]:
    process = subprocess.Popen(host.command(*COMMAND, *arguments), stdout=subprocess.PIPE, text=True)
    try:
        yield Watching(process)
    finally:
        end(process)


@pytest.fixture
def served(pair: tuple[Host, Host], tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with nginx(pair[1], tmp_path / "nginx"):
        yield pair


def test_each_request_is_told_as_it_arrives_with_what_the_server_answers(served: tuple[Host, Host]) -> None:
    client, server = served
    rules = server.rules()
    with watching(server) as watch:
        assert watch.printed == "Looking at TCP port 80; end with Ctrl-C."
        ask(client, server.ipv4, PAGE_REQUEST)
        ask(client, server.ipv6, request(OTHER_TOKEN, headers=CLOSE))
        asks = rf"\d\d:\d\d:\d\d  {client.ipv6} over IPv6 to {server.ipv6} \(nginx\) asks example.com for {OTHER_TOKEN}"
        assert re.fullmatch(asks, watch.line())
        assert re.fullmatch(rf"\S+  answered {client.ipv6}: 200 OK, after \d+\.\d ms", watch.line())
        ask(client, server.ipv4, request("unknown", headers=CLOSE))
        assert "asks example.com for unknown" in watch.line()
        assert "404 Not Found" in watch.line()
        assert server.rules() == rules
        table = watch.closing_table()
    assert [line.split()[:2] for line in table[2:]] == [[client.ipv6, "1"], [client.ipv4, "1"]]
    assert table[2].endswith("1 x 200 OK")


def test_our_own_answers_are_told_too_and_a_file_holds_the_whole_exchange(
    served: tuple[Host, Host], tmp_path: Path
) -> None:
    client, server = served
    file = tmp_path / "validation.pcap"
    with intercepting(server), watching(server, "--pcap", str(file)) as watch:
        ask(client, server.ipv4, PAGE_REQUEST)
        ask(client, server.ipv4)
        assert TOKEN in watch.line()
        assert "200 OK" in watch.line()
        watch.closing_table()
    packets = [str(packet["TCP"].flags) for packet in rdpcap(str(file))]
    assert packets == ["S", "SA", "PA", "FPA", "FA"]


def test_only_requests_for_the_names_that_were_given_are_told(served: tuple[Host, Host]) -> None:
    client, server = served
    with watching(server, "Example.com") as watch:
        for host in ("other.example.com", "EXAMPLE.COM:80"):
            ask(client, server.ipv4, request(OTHER_TOKEN, headers=f"Host: {host}\r\nConnection: close\r\n"))
        assert "asks EXAMPLE.COM:80" in watch.line()


def test_connections_that_do_not_come_about_are_in_the_table(pair: tuple[Host, Host]) -> None:
    client, server = pair
    with watching(server) as watch:
        with pytest.raises(ConnectionRefusedError):
            client.connect(server.ipv4)
        server.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
        with pytest.raises(TimeoutError):
            client.connect(server.ipv4, timeout=0.2)
        table = watch.closing_table()
    assert table[2] == "no challenge request was seen"
    assert sorted(line.split(maxsplit=1)[1].strip() for line in table[3:]) == [
        "1  connections: not answered",
        "1  connections: refused",
    ]


@pytest.mark.parametrize("arguments", [("--pcap", "/no/such/folder/file"), ("--port", "x"), ("--port", "65536")])
def test_what_cannot_be_done_is_an_error_in_words(pair: tuple[Host, Host], arguments: tuple[str, ...]) -> None:
    result = subprocess.run(pair[1].command(*COMMAND, *arguments), check=False, capture_output=True, text=True)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert arguments[1] in result.stderr


def seen(payload: bytes, port: int = 4000, *, outgoing: bool = False, time: float = 100.0) -> TappedSegment:
    connection = Connection("192.0.2.1", port, "192.0.2.80", 80)
    return TappedSegment(connection, 1, Flags.PSH | Flags.ACK, payload, outgoing, time)


def test_a_request_without_an_answer_is_told_after_a_while() -> None:
    lines: list[str] = []
    watch = Watch(HTTP01_PORT, set(), lines.append, lambda _: "nobody")
    watch.observe(seen(request("t")))
    watch.observe(seen(request("t")))
    watch.expire(104.0)
    assert len(lines) == 1
    watch.expire(106.0)
    assert lines[1].endswith("no answer to 192.0.2.1 within 5 seconds")
    assert list(watch.table())[1].endswith("1 x none")


def test_nothing_that_is_sent_to_us_gets_to_the_terminal_as_it_is() -> None:
    lines: list[str] = []
    watch = Watch(HTTP01_PORT, set(), lines.append, lambda _: "nobody")
    watch.observe(seen(b"GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: \x1b[2Jx\xff\r\n\r\n"))
    watch.observe(seen(b"HTTP/1.1 200 \x1b]0;x\x07\r\n\r\n", outgoing=True))
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert len(lines) == 2


def test_what_is_remembered_is_bounded() -> None:
    lines: list[str] = []
    watch = Watch(HTTP01_PORT, set(), lines.append, lambda _: "nobody")
    for number in range(MAX_WAITING + 10):
        watch.observe(seen(request("t"), port=number))
    lines.clear()
    watch.expire(200.0)
    assert len(lines) == MAX_WAITING


def run_watch(host: Host, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = host.command(*wrapper, *COMMAND, *arguments)
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("with_file", [False, True])
def test_a_reader_that_goes_away_ends_it_without_a_traceback(
    served: tuple[Host, Host], tmp_path: Path, with_file: bool
) -> None:
    client, server = served
    path, complaints = tmp_path / "seen.pcap", tmp_path / "complaints"
    options = f"--pcap {path}" if with_file else ""
    watch = f"{shlex.join(COMMAND)} {options} 2> {complaints}"
    script = f'set -o pipefail; {watch} | {{ read -r line; echo "$line"; }}'
    with running(server.command("bash", "-c", script), stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        assert shell.stdout.readline().startswith("Looking at TCP port 80")
        ask(client, server.ipv4, request(OTHER_TOKEN, headers=CLOSE))
        assert shell.wait(20) == 128 + signal.SIGPIPE
    assert not complaints.read_text()
    assert not with_file or rdpcap(str(path))


def test_a_file_that_cannot_be_written_is_named_with_the_reason(pair: tuple[Host, Host], tmp_path: Path) -> None:
    path = tmp_path / "missing" / "seen.pcap"
    finished = run_watch(pair[1], "--pcap", str(path))
    assert (finished.returncode, finished.stderr) == (1, f"{path} cannot be written: No such file or directory.\n")


def test_a_user_who_may_not_look_at_packets_is_told_so(pair: tuple[Host, Host]) -> None:
    powers = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # the folder might be root's
    finished = run_watch(pair[1], wrapper=(*UNMEASURED, "setpriv", "--reuid=65534", "--clear-groups", *powers))
    assert finished.returncode == 1
    assert finished.stderr == "This process cannot watch connections without CAP_NET_RAW. Run it as root.\n"


def test_queries_for_dns01_are_shown_with_their_source_and_type(pair: tuple[Host, Host]) -> None:
    client, server = pair
    with watching(server, "--challenge", "dns-01", "example.com") as watch:
        assert watch.printed == "Looking at UDP and TCP port 53; end with Ctrl-C."
        for name, kind in (("_acme-challenge.example.org", "TXT"), ("_ACME-challenge.example.com", "NS")):
            message = dns.message.make_query(name, kind).to_wire()
            with client.inside(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
                asking.sendto(message, (server.ipv6, 53))
        said = f"{client.ipv6} over IPv6 and UDP to {server.ipv6} (no listener here) asks for the NS records of "
        assert watch.line().endswith(f"{said}_acme-challenge.example.com")
        assert watch.closing_table() == ["", f"{'source':40} requests  answers", f"{client.ipv6:40}        1  "]


def test_handshakes_are_told_with_what_the_server_says_to_them(pair: tuple[Host, Host], tmp_path: Path) -> None:
    client, server = pair
    with (
        nginx(server, tmp_path / "nginx", 443, listen(tmp_path / "tls")),
        watching(server, "--challenge", "tls-alpn-01", "example.com") as watch,
    ):
        assert watch.printed == "Looking at TCP port 443; end with Ctrl-C."
        certificate_at(client, server.ipv4, "example.com", VISITOR)
        for name in ("other.example", "Example.com"):
            with pytest.raises(ssl.SSLError):
                certificate_at(client, server.ipv4, name)
        asks = rf"{client.ipv4} over IPv4 to {server.ipv4} \(nginx\) asks example.com for a handshake of tls-alpn-01"
        assert re.fullmatch(rf"\S+  {asks}", watch.line())
        told = rf"answered {client.ipv4}: TLS alert 120 \(no application protocol\), after \d+\.\d ms"
        assert re.fullmatch(rf"\S+  {told}", watch.line())
        with intercepting(server, {"example.com": KEY_AUTHORIZATION}, 443, TlsAlpn01Solver):
            certificate_at(client, server.ipv4, "example.com")
        assert "asks example.com" in watch.line()
        assert re.fullmatch(rf"\S+  answered {client.ipv4}: TLS handshake, after \d+\.\d ms", watch.line())
        table = watch.closing_table()
    assert table[2].endswith("2  1 x TLS alert 120 (no application protocol), 1 x TLS handshake")
