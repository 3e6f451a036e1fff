"""Whether names point to this machine, and whether their CAA records allow http-01."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, warned
from certbot_standalone_nfq.host import resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.service import Service
from certbot_standalone_nfq.wire.addresses import is_address, version_of

_DNS_SECONDS = 2.0
_NOT_FOUND = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

Answer = Callable[[Service], Iterator[Finding]]
"""Makes findings of what a look-up found, once it is known who serves the port."""


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
    """The look-ups of all names, each on its own thread, as a resolver has no time limit."""

    def __init__(self, given: list[str]) -> None:
        names = list(dict.fromkeys(map(understood, given)))
        self._answers: queue.SimpleQueue[tuple[str, str, Answer]] = queue.SimpleQueue()
        self._pending = [
            (name, check) for name in names for check in ("name", "CAA") if check == "name" or not is_address(name)
        ]
        for name, check in self._pending:
            look_up = _addresses if check == "name" else _caa
            threading.Thread(target=self._run, args=(name, check, look_up), daemon=True).start()

    def _run(self, name: str, check: str, look_up: Callable[[str], Answer]) -> None:
        self._answers.put((name, check, look_up(name)))

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


def _addresses(name: str) -> Answer:
    if name.startswith("*."):
        return _always(failed("name", f"{name}: http-01 cannot validate wildcards.", "Use a plugin for dns-01."))
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


def _caa(name: str) -> Answer:
    try:
        from certbot_standalone_nfq.host import caa
        from certbot_standalone_nfq.host.dns.questions import Unreadable
    except ImportError as error:  # pip's --no-deps leaves it out
        return _always(warned("CAA", f"{name}: dnspython cannot be loaded: {error}.", "Install dnspython."))
    try:
        owner, records = caa.caa_records(name[2:] if name.startswith("*.") else name, _DNS_SECONDS)
    except Unreadable as error:
        return _always(
            warned("CAA", f"{name}: could not be read: {error}.", "Check whether the nameserver answers for type CAA.")
        )
    except Exception as error:
        errors.raise_interruption(error)
        return _always(warned("CAA", f"{name}: could not be read: {error!r}.", "Ask for it with dig."))
    if not records:
        return _always(passed("CAA", f"{name} has no CAA records: any CA may issue."))
    shown = ", ".join(f'{record.tag} "{record.value}"' for record in records)
    issue = [record.value for record in records if record.tag == "issue"]
    seen = f"{name}: CAA records of {owner}: {shown}."
    if not issue or any(allows_http01(value) for value in issue):
        return _always(passed("CAA", seen))
    return _always(failed("CAA", f"{seen} None allows http-01.", "Add an issue record for your CA."))


def allows_http01(value: str) -> bool:
    """Whether an issue record's value names a CA, with http-01 among its methods (RFC 8657)."""
    ca, *parameters = (part.strip() for part in value.split(";"))
    methods = [
        part.partition("=")[2].strip()
        for part in parameters
        if part.partition("=")[0].strip().lower() == "validationmethods"
    ]
    return bool(ca) and all("http-01" in each.split(",") for each in methods)
