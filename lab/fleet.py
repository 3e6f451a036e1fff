"""A fleet: servers that share their names, a machine in front of them that balances, and the internet beyond it.

Each way to balance has a name for each IP version: a request for it reaches one of the servers, each in its turn.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.rrset

from lab import hosts
from lab.dns import answering
from lab.hosts import Host
from lab.nginx import Nginx, nginx
from lab.pebble import Pebble, pebble
from lab.processes import running, wait_until

HAPROXY, DNAT, RECORDS = "haproxy", "dnat", "records"
BALANCERS = {
    HAPROXY: "HAProxy, TCP mode",
    DNAT: "DNAT by statistic",
    RECORDS: "several A and AAAA records",
}
FAMILIES = ("ipv4", "ipv6")
SERVERS = 3
_DNAT_ADDRESSES = ("198.51.100.3", "2001:db8:100::3")
_HAPROXY = """\
global
    log stdout format raw local0
    maxconn 1000
defaults
    mode tcp
    log global
    option tcplog
    option dontlog-normal
    timeout connect 5s
    timeout client 75s
    timeout server 75s
"""
_PROXY = """\
listen {family}
    bind {address}:80
    balance roundrobin
"""


@dataclass
class Member:
    """One of the servers."""

    host: Host
    nginx: Nginx

    def state(self) -> tuple[object, ...]:
        """Return what must be the same afterwards: rules, queues, nginx, its errors and challenges."""
        seen = self.nginx.access_log.count("acme-challenge")
        return self.host.rules(), self.host.queues(), self.nginx.identity(), self.nginx.error_log, seen


@dataclass
class Fleet:
    """Who is there."""

    internet: Host
    edge: Host
    members: Sequence[Member]
    authority: Pebble
    records: Mapping[str, Sequence[str]]
    """The addresses of each name."""
    haproxy_log: Path

    def addresses(self) -> dict[str, list[str]]:
        """Return by each balancer an address of each IP version, for clients that do not ask the DNS."""
        return {each: [self.records[name(each, family)][0] for family in FAMILIES] for each in BALANCERS}

    def state(self) -> list[object]:
        """Return what must be the same afterwards on all servers."""
        return [each.state() for each in self.members]


def name(balancer: str, family: str) -> str:
    """Return the name that leads to a balancer over an IP version."""
    return f"{balancer}-{family}.example.com"


NAMES = tuple(name(balancer, family) for balancer in BALANCERS for family in FAMILIES)


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Set everything up, with nothing that answers challenges; files are in a folder that is there."""
    with contextlib.ExitStack() as stack:
        internet, edge, *servers = [
            stack.enter_context(hosts.host(label)) for label in ("i", "e", *map(str, range(SERVERS)))
        ]
        _connect(internet, edge, servers)
        sites = [stack.enter_context(nginx(each, folder / f"nginx{number}")) for number, each in enumerate(servers)]
        records = _records(edge, servers)
        stack.enter_context(_haproxy(edge, servers, folder))
        _translate(edge, servers)
        resolver = stack.enter_context(_round_robin(internet, records))
        authority = stack.enter_context(pebble(internet, folder / "pebble", resolver=resolver))
        members = [Member(*each) for each in zip(servers, sites)]
        yield Fleet(internet, edge, members, authority, records, folder / "haproxy.log")


def _connect(internet: Host, edge: Host, servers: Sequence[Host]) -> None:
    gateway = hosts.cable(internet, edge, 100, "eth0", "eth0")
    internet.ipv4, internet.ipv6, edge.ipv4, edge.ipv6 = gateway
    _route(internet, *gateway[2:])
    for number, server in enumerate(servers):
        # Numbers whose addresses have equally long prefixes in common with the internet's: clients prefer none.
        *inner, server.ipv4, server.ipv6 = hosts.cable(edge, server, 111 + number, f"server{number}", "eth0")
        _route(server, *inner)
    edge.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    edge.run("ip", "address", "add", f"{_DNAT_ADDRESSES[0]}/24", "dev", "eth0")
    edge.run("ip", "address", "add", f"{_DNAT_ADDRESSES[1]}/64", "dev", "eth0", "nodad")
    hosts.wait_for_link_local(internet, edge, *servers)


def _route(host: Host, *gateways: str) -> None:
    for gateway in gateways:
        host.run("ip", "route", "add", "default", "via", gateway)


def _records(edge: Host, servers: Sequence[Host]) -> dict[str, list[str]]:
    addresses = {
        HAPROXY: [[edge.ipv4], [edge.ipv6]],
        DNAT: [[each] for each in _DNAT_ADDRESSES],
        RECORDS: [[each.ipv4 for each in servers], [each.ipv6 for each in servers]],
    }
    return {name(each, family): addresses[each][number] for each in BALANCERS for number, family in enumerate(FAMILIES)}


@contextlib.contextmanager
def _haproxy(edge: Host, servers: Sequence[Host], folder: Path) -> Iterator[None]:
    written = [_HAPROXY]
    for family in FAMILIES:
        written.append(_PROXY.format(family=family, address=_written(getattr(edge, family))))
        for number, server in enumerate(servers):
            written.append(f"    server web{number} {_written(getattr(server, family))}:80 check\n")
    configuration = folder / "haproxy.cfg"
    configuration.write_text("".join(written))
    command = edge.command("haproxy", "-db", "-f", str(configuration))
    with (folder / "haproxy.log").open("w") as log, running(command, stdout=log, stderr=log):
        wait_until(lambda: edge.listens(80), "HAProxy listens")
        yield


def _translate(edge: Host, servers: Sequence[Host]) -> None:
    """Have the edge's firewall give each server every third connection to its further addresses."""
    for program, address, family in zip(("iptables", "ip6tables"), _DNAT_ADDRESSES, FAMILIES):
        for number, server in enumerate(servers):
            turn = ("-m", "statistic", "--mode", "nth", "--every", str(len(servers) - number), "--packet", "0")
            to = ("-j", "DNAT", "--to-destination", _written(getattr(server, family)))
            connection = ("-d", address, "-p", "tcp", "--dport", "80")
            edge.run(program, "-t", "nat", "-A", "PREROUTING", *connection, *turn, *to)


@contextlib.contextmanager
def _round_robin(internet: Host, records: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Run a name server that begins with another of a name's addresses each time; yield where."""
    with answering(internet, _rotating(records), address=internet.ipv4):
        yield f"{internet.ipv4}:53"


def _rotating(records: Mapping[str, Sequence[str]]) -> Callable[[bytes], bytes]:
    turns: dict[str, Iterator[int]] = collections.defaultdict(itertools.count)

    def answer(query: bytes) -> bytes:
        asked = dns.message.from_wire(query)
        reply = dns.message.make_response(asked)
        question = asked.question[0]
        wanted = {dns.rdatatype.A: ".", dns.rdatatype.AAAA: ":"}.get(question.rdtype, "none")
        found = [each for each in records.get(question.name.to_text(omit_final_dot=True).lower(), ()) if wanted in each]
        if found:
            first = next(turns[str(question)]) % len(found)
            # One RRset each: dnspython shuffles the records of an RRset.
            for address in found[first:] + found[:first]:
                reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", question.rdtype, address))
        return reply.to_wire()

    return answer


def _written(address: str) -> str:
    """Return an address as it is written before a port."""
    return f"[{address}]" if ":" in address else address
