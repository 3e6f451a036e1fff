"""What the DNS says of names: whether they lead to this machine, and whether a CA may issue for them."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from certbot_standalone_nfq.cli.doctor import caa_records, lead
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, warned
from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.service import Service
from certbot_standalone_nfq.settings import DNS_01, HTTP_01
from certbot_standalone_nfq.wire.addresses import is_address, version_of

_NOT_FOUND = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

Answer = Callable[[Service], Iterator[Finding]]
"""Makes findings of what a look-up found, once it is known who serves the port."""

_AT_ONCE = 64

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#]*)(?:[/?#].*)?")
_WITH_PORT = re.compile(r"([^:\[\]]+):\d+")
_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?")


def understood(given: str) -> str:
    """Return the name or address in what the user gave: a URL, with a port, in brackets, with letters beyond ASCII."""
    found = _URL.fullmatch(given)
    name = found.group(1) if found else given
    for form in (_BRACKETS, _WITH_PORT):
        found = form.fullmatch(name)
        if found:
            return found.group(1)
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name  # the look-up will say that it is none


class Lookups:
    """The look-ups of all names, many at once on threads that are left behind, as a resolver has no time limit."""

    def __init__(self, given: Sequence[str], typ: str = "") -> None:
        """Begin, for a type of challenge, or for the one that Certbot takes for each name by itself."""
        names = list(dict.fromkeys(map(understood, given)))
        self._answers: queue.SimpleQueue[tuple[str, str, Answer]] = queue.SimpleQueue()
        types = {name: typ or (DNS_01 if name.startswith("*.") else HTTP_01) for name in names}
        self._pending = [(name, check) for name in names for check in _checks(name, types[name])]
        self._waiting = deque((name, check, types[name]) for name, check in self._pending)
        for _ in self._pending[:_AT_ONCE]:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while self._waiting:
            try:
                name, check, typ = self._waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            self._answers.put((name, check, _LOOK_UPS[check](name, typ)))

    def findings(self, served: Service, deadline: Deadline) -> Iterator[Finding]:
        """Yield what was found, in the names' order, and which look-ups did not end in time."""
        answers: dict[tuple[str, str], Answer] = {}
        while len(answers) < len(self._pending):
            try:
                name, check, answer = self._answers.get(timeout=deadline.remaining())
            except queue.Empty:
                break
            answers[name, check] = answer
        for name, check in self._pending:
            if (name, check) in answers:
                yield from answers[name, check](served)
            else:
                yield warned(
                    check, f"{name}: the look-up did not end in time.", "Check whether the nameserver answers."
                )


def _checks(name: str, typ: str) -> list[str]:
    """Return what is looked up of a name."""
    first = "DNS" if typ == DNS_01 else "name"
    return [first] if is_address(name) else [first, "CAA"]


def _addresses(name: str, typ: str) -> Answer:
    if name.startswith("*."):
        return _always(failed("name", f"{name}: {typ} cannot validate wildcards.", "Use dns-01, as Certbot does."))
    try:
        found = resolver.addresses_of(name)
    except socket.gaierror as error:
        if error.errno in _NOT_FOUND:
            return _always(
                failed("name", f"{name} has no address.", "Add an A or AAAA record with an address of this machine.")
            )
        return _always(
            warned("name", f"{name}: the look-up failed ({error.strerror}).", "Check whether the nameserver answers.")
        )
    except (UnicodeError, ValueError, OSError):
        return _always(failed("name", f"{name!r} cannot be looked up.", "Give a domain name."))
    local = {address: resolver.is_local(address) for address in found}

    def answer(served: Service) -> Iterator[Finding]:
        for address in found:
            yield _address(name, address, local[address], served)

    return answer


def _always(*findings: Finding) -> Answer:
    return lambda _: iter(findings)


def _address(name: str, address: str, local: bool | None, served: Service) -> Finding:
    """Judge one of a name's addresses."""
    version = version_of(address)
    record = "AAAA" if version == 6 else "A"
    named = not is_address(name)
    seen = f"{name} has {record} {address}" if named else name
    unserved = "" if served.has(version) else f", and nothing listens on IPv{version} here"
    if ipaddress.ip_address(address).is_loopback:
        return _loopback(f"{seen}, a loopback address", named)
    if local is None:
        return warned(
            "name", f"{seen}; cannot determine whether that is this machine's{unserved}.", "Compare with `ip address`."
        )
    if not local:
        otherwise = "correct the record" if named else "run this on the machine that has it"
        return warned(
            "name",
            f"{seen}, not an address of this machine{unserved}.",
            f"This is fine if a router forwards it here. Otherwise {otherwise}.",
        )
    if not served.reachable(address):
        return warned(
            "name",
            f"{seen}, an address of this machine, but nothing listens there on port {served.port}.",
            "Certbot accepts connections there while it validates. To serve visitors, make the web server listen on it"
            f"{f', or remove the {record} record' if named else ''}.",
        )
    if not served.surely_reachable(address):
        may = "which is served unless the program on [::] accepts IPv6 only"
        return passed("name", f"{seen}, an address of this machine, {may}.")
    return passed("name", f"{seen}, an address of this machine where something listens.")


def _loopback(seen: str, named: bool) -> Finding:
    if not named:
        return failed("name", f"{seen}.", "Give an address that the CA can reach.")
    return warned(
        "name",
        f"{seen}: probably from /etc/hosts, which hides the DNS records.",
        "Look the name up on another machine: the CA asks the DNS.",
    )


_LOOK_UPS: dict[str, Callable[[str, str], Answer]] = {
    "name": _addresses,
    "CAA": lambda name, typ: _always(*caa_records.findings(name, typ)),
    "DNS": lambda name, _typ: _always(*lead.findings(name)),
}
