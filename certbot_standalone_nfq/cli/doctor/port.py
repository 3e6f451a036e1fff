"""The port: who listens, what the firewall does, and which other programs are involved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from certbot_standalone_nfq.capture.nfqueue import state
from certbot_standalone_nfq.capture.nfqueue.allocation import RunId, run_ids
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, unchecked, warned
from certbot_standalone_nfq.engine.protocols import Transport
from certbot_standalone_nfq.host import claims, privileges, processes
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.firewall import rules as ruleset
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.refusal import sure_refusal
from certbot_standalone_nfq.host.firewall.rules import Effect, Rule, Table
from certbot_standalone_nfq.host.service import Service
from certbot_standalone_nfq.host.sockets import Listener
from certbot_standalone_nfq.wire.addresses import VERSIONS

_UNIT = {Transport.TCP: "connection", Transport.UDP: "datagram"}


def listening(served: Service, deadline: Deadline, server: str = "web server") -> Iterator[Finding]:
    """Report who listens, which rules redirect the port, and what is missing for an IP version."""
    for rule in dict.fromkeys(served.translations.values()):
        yield passed("listener", f"A rule redirects {_UNIT[served.transport]}s to port {served.port}: {rule.text}")
    owners = processes.socket_owners({listener.inode for listener in served.listeners}, deadline)
    outside = [listener for listener in served.listeners if not listener.loopback]
    if outside:
        yield passed("listener", " ".join(dict.fromkeys(_describe(each, served, owners) for each in outside)))
    elif not served.translations:
        where = f"{served.transport.name} port {served.port}"
        except_loopback = " except on the loopback interface" if served.listeners else ""
        yield warned(
            "listener",
            f"Nothing listens on {where}{except_loopback} and no rule redirects its connections.",
            f"Start the {server} if there is one. Without one, Certbot accepts connections itself while it validates.",
        )
    if served.has(6) and not served.has(4):
        yield warned(
            "listener", "Nothing listens on IPv4.", f"Make the {server} listen on IPv4 if names have A records."
        )


def _describe(listener: Listener, served: Service, owners: dict[int, str]) -> str:
    port = served.port if served.transport is Transport.TCP else f"{served.port} ({served.transport.name})"
    owner = owners.get(listener.inode) or "a program that this user cannot see"
    if listener.version == 4:
        return f"{owner} listens on {listener.address}:{port}."
    note = ", and on IPv4 unless it accepts IPv6 only" if listener.anywhere else ""
    return f"{owner} listens on [{listener.address}]:{port}{note}."


def firewall(served: Service, rules: Snapshot) -> Iterator[Finding]:
    """Report what the rules do with packets to the port, if that is clear."""
    port, elsewhere = served.port, frozenset(served.translations)
    called = f"port {port}" if served.transport is Transport.TCP else f"{served.transport.name} port {port}"
    yield from _unread(rules)
    plain = True
    if elsewhere:
        versions = " and ".join(f"IPv{version}" for version in sorted(elsewhere))
        yield passed("firewall", f"{versions}: not checked, as {called} is redirected and other rules apply there.")
    for table in rules.over(served.transport):
        if table.versions <= elsewhere:
            continue
        yield from _handshakes(table, port)
        refusing = sure_refusal(table, port)
        if refusing:
            plain = False
            yield _refused(refusing, table.versions - elsewhere, served)
            continue
        for judgement in ruleset.judge(table, port, called):
            if judgement.open:
                yield passed("firewall", f"{judgement.seen}.")
            else:
                plain = False
                yield warned(
                    "firewall",
                    f"{judgement.seen}.",
                    f"Allow {served.transport.name} port {port}, unless another rule already does.",
                )
    if plain and elsewhere != frozenset(VERSIONS) and not any(shown.complaint for shown in rules.listings):
        names = ", ".join(dict.fromkeys(shown.program for shown in rules.listings)) or "the kernel has none"
        yield passed("firewall", f"No rule was found that refuses {called} ({names}).")


def _handshakes(table: Table, port: int) -> Iterator[Finding]:
    for rule in table.incoming():
        if rule.effect is Effect.SHAKE_HANDS and rule.names(port):
            yield passed("firewall", f"SYNPROXY completes handshakes ahead of the server; answers fit: {rule.text}.")


def _refused(rule: Rule, versions: frozenset[int], served: Service) -> Finding:
    """Report a rule that refuses all connections: over IPv6 alone, that matters only to names with AAAA records."""
    over = " and ".join(f"IPv{version}" for version in sorted(versions))
    seen = f"A rule refuses every {_UNIT[served.transport]} to port {served.port} over {over}: {rule.text}."
    if 4 in versions or (served.has(6) and not served.has(4)):
        return failed("firewall", seen, "Remove that rule, or allow the port ahead of it.")
    return warned("firewall", seen, "Remove that rule, or allow the port ahead of it, if names have AAAA records.")


def _unread(rules: Snapshot) -> Iterator[Finding]:
    """Report which programs did not show their rules: on one line for a user who may not see any."""
    complaints = {shown.program: shown.complaint for shown in rules.listings if shown.complaint}
    if complaints and privileges.missing_capabilities():
        yield unchecked("firewall", f"This user cannot read the rules ({', '.join(complaints)}).")
        return
    for program, complaint in complaints.items():
        seen = f"The rules could not be read: {program}: {complaint}."
        yield warned("firewall", seen, f"Run {program} by hand to see why. Nothing is known of its rules here.")


def queues(rules: Snapshot) -> Iterator[Finding]:
    """Check for other programs that listen to packet queues, and for leftovers of dead runs of this plugin."""
    bound = state.bound_queues() if state.has_queues() else set()
    ours = run_ids(rules.text)
    if bound is None:
        yield unchecked("queues", "This user cannot see which packet queues are in use.")
        return
    for run_id in sorted(ours):
        yield _run_of_ours(run_id, alive=run_id.queue in bound)
    others = sorted(bound - {run_id.queue for run_id in ours})
    if others:
        yield passed("queues", f"Other programs listen to packet queues: {', '.join(map(str, others))}.")
    if not ours and not others:
        yield passed("queues", "No program listens to a packet queue, and no run of this plugin left rules behind.")
    yield from _dead_ends(rules, bound)


def _run_of_ours(run_id: RunId, alive: bool) -> Finding:
    if alive and claims.is_claimed(state.OF_A_SERVICE, str(run_id.queue)):
        return passed("queues", f"A service of this plugin answers any token (queue {run_id.queue}).")
    if alive:
        return warned(
            "queues",
            f"A run of this plugin is under way (queue {run_id.queue}).",
            "Nothing to do: several runs at once do not interfere.",
        )
    return warned(
        "queues",
        f"An interrupted run of this plugin left rules behind (queue {run_id.queue}, without a listener).",
        "Nothing to do: packets bypass them, and the next run removes them.",
    )


def _dead_ends(rules: Snapshot, bound: set[int]) -> Iterator[Finding]:
    """Check for rules that send packets to a queue without a listener, where they are dropped."""
    for table in rules.tables:
        for rule in table.rules:
            if rule.queues and not rule.bypass and not bound & set(range(rule.queues[0], rule.queues[1] + 1)):
                yield warned(
                    "queues",
                    f"A rule sends packets to a queue without a listener, which drops them: {rule.text}.",
                    "Start the program that the queue is for, or remove the rule.",
                )


def clients() -> Iterator[Finding]:
    """Check for other ACME clients that are running."""
    running: list[str] = []
    with contextlib.suppress(OSError):
        running = processes.acme_clients()
    if not running:
        yield passed("clients", "No other ACME client is running.")
        return
    yield warned(
        "clients",
        f"Running: {', '.join(running)}.",
        "If it is Certbot, wait for it: only one instance can run. Other clients do not interfere.",
    )
