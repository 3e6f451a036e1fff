"""Hosts: network namespaces, and the cables between them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import secrets
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lab.processes import run, wait_until

_CLONE_NEWNET = 0x40000000
_THREAD_NAMESPACE = Path("/proc/thread-self/ns/net")
_COMPLAINTS = ("TcpRetransSegs", "TcpInErrs", "TcpEstabResets", "TcpExtTCPChallengeACK", "TcpExtPAWSEstab")
_OF_IPTABLES = re.compile("table ip6? (filter|nat|mangle|raw|security) ")
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: IO[bytes]) -> None:
    if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Host:
    """A network namespace with an address of each family."""

    name: str
    ipv4: str = ""
    ipv6: str = ""

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and the threads and programs it starts, be on this host."""
        with _THREAD_NAMESPACE.open("rb") as home, Path(f"/run/netns/{self.name}").open("rb") as away:
            _enter(away)
            try:
                yield
            finally:
                _enter(home)

    def run(self, *command: str, **options: Any) -> str:
        """Run a command here and return its output."""
        return run(self.command(*command), **options)

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command here."""
        return ["ip", "netns", "exec", self.name, *command]

    def connect(
        self, address: str, port: int = 80, timeout: float = 15, source: str = "", source_port: int = 0
    ) -> socket.socket:
        """Open a TCP connection from here, from a certain address and port if given."""
        with self.inside():
            connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            peer = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4]  # a scope is known only here
        connection.settimeout(timeout)
        try:
            if source or source_port:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.bind((source, source_port))
            connection.connect(peer)
        except BaseException:
            connection.close()
            raise
        return connection

    def listens(self, port: int) -> bool:
        """Whether anything listens to a TCP port."""
        return f":{port} " in self.run("ss", "-ltnH")

    def counter(self, name: str) -> int:
        """Return one of the kernel's network counters (nstat) for this host."""
        return self._counters(name)[name]

    def complaints(self) -> dict[str, int]:
        """Return this host's counters of what goes wrong with a TCP connection."""
        return self._counters(*_COMPLAINTS)

    def _counters(self, *names: str) -> dict[str, int]:
        lines = [line.split() for line in self.run("nstat", "-asz", *names).splitlines() if not line.startswith("#")]
        return {name: int(count) for name, count, *_ in lines}

    def closing(self) -> list[str]:
        """Return the connections of port 80 that are neither open nor properly closed."""
        lines = self.run("ss", "-tanH", "( sport = :80 or dport = :80 )").splitlines()
        return [line for line in lines if line.split()[0] not in ("LISTEN", "ESTAB", "TIME-WAIT")]

    def keep_order(self) -> None:
        """Have packets handled here in the order in which they were sent, as network cards do.

        A cable leaves a packet to the processor that sent it. If that is kept from it for some milliseconds, others
        overtake it, and a late acknowledgment is one that TCP complains of. With this, one processor handles all
        (Documentation/networking/scaling.rst, RPS). It costs a fifth more, so that benchmarks do without.
        """
        self.run("sh", "-c", "for queue in /sys/class/net/*/queues/rx-*/rps_cpus; do echo 1 > $queue; done")

    def rules(self) -> str:
        """Return all firewall rules, of all variants and families, without counters, comments and empty tables."""
        programs = [f"{family}-{variant}-save" for family in ("iptables", "ip6tables") for variant in ("nft", "legacy")]
        return "\n".join([*(_normal(self.run(program)) for program in programs), *self._nft_tables()])

    def queues(self) -> str:
        """Return what the kernel shows of the packet queues that are bound; nothing if its module is not loaded."""
        return self.run("sh", "-c", "cat /proc/net/netfilter/nfnetlink_queue 2> /dev/null || true")

    def _nft_tables(self) -> list[str]:
        """Return the tables that are not iptables' own, without counters and what is in their sets."""
        listed = self.run("nft", "--stateless", "--terse", "list", "ruleset")
        tables = ["".join(each) for each in re.findall(r"^(table .*\n)((?:[^#t].*\n)*)", listed, re.MULTILINE)]
        return [table for table in tables if not _OF_IPTABLES.match(table)]


def _normal(saved: str) -> str:
    """Leave out what differs between equal rules: comments, counters, tables that hold nothing."""
    kept: list[str] = []
    table: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = [line]
        elif line.startswith(":"):
            chain, policy, _ = line.split()
            if policy != "ACCEPT":
                table.append(f"{chain} {policy}")
        elif line == "COMMIT":
            kept += table if len(table) > 1 else []
        elif not line.startswith("#"):
            table.append(line)
    return "\n".join(kept)


def kernel_can(*command: str) -> bool:
    """Whether a command succeeds on a host that has an interface, eth0; it fails where the kernel lacks a module.

    False without root.
    """
    if os.geteuid() != 0:
        return False
    with host("k") as made:
        made.run("ip", "link", "add", "eth0", "type", "veth")
        try:
            made.run(*command)
        except RuntimeError:
            return False
    return True


def kernel_can_queue_by_nft() -> bool:
    """Whether this kernel has nftables' queue statement; false without root."""
    return kernel_can("nft", "add table inet t; add chain inet t c; add rule inet t c queue num 0 bypass")


def kernel_can_own_tables() -> bool:
    """Whether an nft table can have an owner: only that program can remove it. Linux 5.12 and later."""
    return kernel_can("nft", "add table inet t { flags owner; }")


@contextlib.contextmanager
def host(label: str) -> Iterator[Host]:
    """Make a host that no other run knows of."""
    name = f"nfq{secrets.token_hex(3)}{label}"
    run(["ip", "netns", "add", name])
    try:
        made = Host(name)
        made.run("ip", "link", "set", "lo", "up")
        made.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        yield made
    finally:
        for pid in run(["ip", "netns", "pids", name]).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run(["ip", "netns", "delete", name])


def cable(first: Host, second: Host, network: int, first_interface: str, second_interface: str) -> tuple[str, ...]:
    """Join two hosts; return their addresses: first IPv4 and IPv6, second IPv4 and IPv6."""
    first.run(
        *("ip", "link", "add", first_interface, "type", "veth"),
        *("peer", "name", second_interface, "netns", second.name),
    )
    addresses = []
    for end, number, interface in ((first, 1, first_interface), (second, 2, second_interface)):
        ipv4, ipv6 = f"198.51.{network}.{number}", f"2001:db8:{network}::{number}"
        end.run("ip", "address", "add", f"{ipv4}/24", "dev", interface)
        end.run("ip", "address", "add", f"{ipv6}/64", "dev", interface, "nodad")
        end.run("ip", "link", "set", interface, "up")
        addresses += [ipv4, ipv6]
    return tuple(addresses)


@contextlib.contextmanager
def pair() -> Iterator[tuple[Host, Host]]:
    """Make two hosts with a cable between them: a client, and the server that is under test."""
    with host("c") as client, host("s") as server:
        client.ipv4, client.ipv6, server.ipv4, server.ipv6 = cable(client, server, 100, "eth0", "eth0")
        wait_for_link_local(client, server)
        yield client, server


def retransmit_late(client: Host) -> None:
    """Let a client wait two seconds for an acknowledgment, so that an answer that is only slow is none that is lost."""
    late = ("dev", "eth0", "proto", "kernel", "rto_min", "2s")
    client.run("ip", "route", "change", "198.51.100.0/24", "src", client.ipv4, "scope", "link", *late)
    client.run("ip", "-6", "route", "change", "2001:db8:100::/64", "metric", "256", *late)


def track_connections(host_: Host) -> None:
    """Have a host track connections, one of its own at least."""
    host_.run("iptables", "-A", "FORWARD", "-i", "none", "-m", "conntrack", "--ctstate", "NEW")
    with host_.inside(), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def put_behind(server: Host, behind: Host) -> None:
    """Put a host behind a server, which routes its packets."""
    gateway4, gateway6, behind.ipv4, behind.ipv6 = cable(server, behind, 101, "inside", "eth0")
    server.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    behind.run("ip", "route", "add", "default", "via", gateway4)
    behind.run("ip", "-6", "route", "add", "default", "via", gateway6)


def publish(server: Host, behind: Host, port: int, published: int = 80) -> None:
    """Put a host behind a server, and its port in place of one of the server's, as containers' ports are published."""
    put_behind(server, behind)
    for program, to in (("iptables", behind.ipv4), ("ip6tables", f"[{behind.ipv6}]")):
        translate = ("-p", "tcp", "--dport", str(published), "-j", "DNAT", "--to-destination", f"{to}:{port}")
        server.run(program, "-t", "nat", "-A", "PREROUTING", "-i", "eth0", *translate)
        server.run(program, "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")


def wait_for_link_local(*hosts: Host) -> None:
    """Wait until every cable of these hosts has its link-local address, and no address is tentative any more."""
    for each in hosts:
        wait_until(functools.partial(_has_all_addresses, each), "addresses are usable")


def _has_all_addresses(host_: Host) -> bool:
    """Tell so; a link-local address is made when the kernel notices that the other end of the cable is up."""
    cables = host_.run("ip", "-o", "link", "show", "up", "type", "veth").splitlines()
    local = host_.run("ip", "-6", "-o", "address", "show", "scope", "link").splitlines()
    return len(local) >= len(cables) and not host_.run("ip", "-6", "address", "show", "tentative")
