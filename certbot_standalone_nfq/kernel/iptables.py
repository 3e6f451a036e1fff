"""The firewall's rules through iptables and ip6tables, in their nf_tables or their legacy variant.

In the mangle table, after NAT, for packets from the client to the port it addressed:

    INPUT, FORWARD: conntrack's original port -> CHAIN
    CHAIN:   already decided on -> CHAIN-OUT
             payload like a challenge request -> set the connection's mark
             connection marked -> NFQUEUE, bypassed while nobody listens
    CHAIN-OUT: not to be watched -> clear the connection's mark
             clear the packet's mark; go on behind the jump to CHAIN

A queued packet that is let go comes back to the top of the hook (NF_REPEAT) with our bit in its mark, leaves by
CHAIN-OUT, and meets the user's own rules as if it had never been away.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.kernel import prefilter, support
from certbot_standalone_nfq.kernel.plan import Label, Plan
from certbot_standalone_nfq.kernel.support import Feature

logger = logging.getLogger(__name__)

VARIANTS = ("iptables", "iptables-nft", "iptables-legacy")
"""The programs to try in turn: the administrator's choice first."""

_LOCK_SECONDS = 10
_TIMEOUT = 30
_REMOVAL_ATTEMPTS = 10
_TABLE = "mangle"
_HOOKS = ("INPUT", "FORWARD")
_CHAIN_PREFIX = "CERTBOT-NFQ-"
_OWN_CHAIN = re.compile(rf"{_CHAIN_PREFIX}(\d+)-([0-9a-f]{{4}})\b")
_MARK_VALUE = re.compile(r"--(?:mark|set-xmark) (0x[0-9a-fA-F]+|\d+)")
_QUEUE_NUMBER = re.compile(r"--queue-(?:num|balance) (\d+)(?::(\d+))?")
_EXIT_RESOURCE_PROBLEM = 4  # iptables' RESOURCE_PROBLEM: the lock was not to be had

_MANGLE = Feature("mangle table for iptables", "iptable_mangle", "CONFIG_IP_NF_MANGLE")
_FEATURES = (
    (("-p", "tcp", "-m", "conntrack", "--ctdir", "ORIGINAL"), "conntrack match", "xt_conntrack", "MATCH_CONNTRACK"),
    (("-m", "bpf", "--bytecode", "1,6 0 0 0"), "bpf match", "xt_bpf", "MATCH_BPF"),
    (("-m", "mark", "--mark", "0x1/0x1"), "mark match", "xt_mark", "MARK"),
    (("-m", "connmark", "--mark", "0x1/0x1"), "connmark match", "xt_connmark", "CONNMARK"),
    (("-j", "MARK", "--set-xmark", "0x0/0x1"), "MARK target", "xt_mark", "MARK"),
    (("-j", "CONNMARK", "--set-xmark", "0x0/0x1"), "CONNMARK target", "xt_connmark", "CONNMARK"),
    (("-j", "NFQUEUE", "--queue-num", "0", "--queue-bypass"), "NFQUEUE target", "xt_NFQUEUE", "TARGET_NFQUEUE"),
)


def chain_names(label: Label) -> tuple[str, str]:
    """Return the names of a plan's chains: the one jumped to, and the one that released packets leave by.

    They are at most 26 characters long; iptables takes 28.
    """
    name = f"{_CHAIN_PREFIX}{label.queue}-{label.run}"
    return name, f"{name}-OUT"


def jump_rules(plan: Plan) -> list[list[str]]:
    """Return the rules that lead into the plan's chain: the hook's chain, then the rule."""
    match = ["-p", "tcp", "-m", "conntrack", "--ctdir", "ORIGINAL", "--ctorigdstport", str(plan.port)]
    return [[hook, *match, "-j", chain_names(plan.label)[0]] for hook in _HOOKS]


def chain_rules(plan: Plan, family: int) -> list[list[str]]:
    """Return the rules of the plan's own chains for IP version 4 or 6."""
    chain, out = chain_names(plan.label)
    connection, released, both = (
        f"{bits:#x}" for bits in (plan.marks.connection, plan.marks.released, plan.marks.both)
    )
    program = prefilter.bytecode(family)
    return [
        [chain, "-m", "mark", "--mark", f"{released}/{released}", "-g", out],
        [chain, "-m", "bpf", "--bytecode", program, "-j", "CONNMARK", "--set-xmark", f"{connection}/{connection}"],
        [
            chain,
            "-m",
            "connmark",
            "--mark",
            f"{connection}/{connection}",
            "-j",
            "NFQUEUE",
            "--queue-num",
            str(plan.queue),
            "--queue-bypass",
        ],
        [out, "-m", "mark", "--mark", f"{released}/{both}", "-j", "CONNMARK", "--set-xmark", f"0x0/{connection}"],
        [out, "-j", "MARK", "--set-xmark", f"0x0/{both}"],
    ]


def install_script(plan: Plan, family: int) -> str:
    """Return the input of iptables-restore that puts a plan in place, in one transaction."""
    chains = [f":{chain} - [0:0]" for chain in chain_names(plan.label)]
    rules = [_line("-A", rule) for rule in chain_rules(plan, family)]
    # At the top of the hook, as a rule of the user's further up could let the packet go before it gets to ours.
    jumps = [_line("-I", [hook, "1", *rest]) for hook, *rest in jump_rules(plan)]
    return _script([*chains, *rules, *jumps])


def removal_script(saved: str, label: Label) -> str | None:
    """Return the input of iptables-restore that removes a plan from rules as saved, or None if nothing is there."""
    names = chain_names(label)
    chains = [line[1:].split()[0] for line in saved.splitlines() if line.startswith(":")]
    own = [chain for chain in chains if chain in names]
    jumps = [
        "-D" + line[2:]
        for line in saved.splitlines()
        if line.startswith("-A ") and line.split()[1] not in names and line.split()[-1] in names
    ]
    flushes = [f"-F {chain}" for chain in own]
    deletions = [f"-X {chain}" for chain in own]
    return _script([*jumps, *flushes, *deletions]) if jumps or own else None


def conflicting_rule(saved: str, plan: Plan) -> str | None:
    """Return the first rule among saved ones that sets or tests the plan's marks, or uses its queue."""
    own = chain_names(plan.label)
    for line in saved.splitlines():
        if not line.startswith("-A ") or line.split()[1] in own:
            continue
        if any(int(value, 0) & plan.marks.both for value in _MARK_VALUE.findall(line)):
            return line
        for first, last in _QUEUE_NUMBER.findall(line):
            if int(first) <= plan.queue <= int(last or first):
                return line
    return None


def _line(action: str, rule: Sequence[str]) -> str:
    return shlex.join([action, *rule]).replace("'", '"')  # iptables-restore knows double quotes only


def _script(lines: Iterable[str]) -> str:
    return "\n".join([f"*{_TABLE}", *lines, "COMMIT", ""])


@dataclass(frozen=True)
class _Family:
    """The programs for one IP version."""

    version: int
    program: str
    save: str
    restore: str


class IptablesFirewall:
    """The rules by one variant of iptables. Everything it raises is one of the package's errors."""

    def __init__(self, variant: str = "iptables") -> None:
        """Find the programs. Raises errors.NoFirewallTool if those for IPv4 are not there."""
        self.name = variant
        self._hold_open: tuple[int, ...] = ()
        self._families = [_find_family(4, variant)]
        if support.has_ipv6():
            try:
                self._families.append(_find_family(6, variant.replace("ip", "ip6", 1)))
            except errors.NoFirewallTool as error:
                logger.warning("Requests over IPv6 cannot be answered. %s", error)

    def install(self, plan: Plan, hold_open: int) -> None:
        """Put the plan's rules in place, for each family in one transaction; nothing stays if one fails."""
        self._hold_open = (hold_open,)
        try:
            for family in self._families:
                self._install_family(plan, family)
        except Exception:
            with contextlib.suppress(errors.Error):  # of the two errors, the first says more
                self.remove(plan.label)
            raise
        finally:
            self._hold_open = ()

    def remove(self, label: Label) -> None:
        """Remove all rules of the plan with this label."""
        for family in self._families:
            self._remove_from(family, label)

    def installed(self) -> set[Label]:
        """Return the labels in the names of all chains of ours."""
        return {
            Label(int(queue), run)
            for family in self._families
            for queue, run in _OWN_CHAIN.findall(self._saved(family, _TABLE))
        }

    def conflict(self, plan: Plan) -> str | None:
        """Return a rule, in any table, that uses the plan's marks or queue."""
        rules = (conflicting_rule(self._saved(family), plan) for family in self._families)
        return next((rule for rule in rules if rule), None)

    def removal_commands(self, plan: Plan) -> list[list[str]]:
        """Return one command a rule and chain, so that each works whether or not the others do; jumps first."""
        return [
            [family.program, "-w", str(_LOCK_SECONDS), "-t", _TABLE, *action]
            for family in self._families
            for action in _removals(plan)
        ]

    def _install_family(self, plan: Plan, family: _Family) -> None:
        script = install_script(plan, family.version)
        try:
            self._restore(family, script)
        except errors.FirewallRefused:
            support.load_modules(*dict.fromkeys(feature.module for _, feature in _probes()))
            try:
                self._restore(family, script)
            except errors.FirewallRefused:
                self._explain(family, plan)
                raise

    def _remove_from(self, family: _Family, label: Label) -> None:
        for attempt in range(_REMOVAL_ATTEMPTS):
            script = removal_script(self._saved(family, _TABLE), label)
            if script is None:
                return
            try:
                self._restore(family, script)
            except errors.FirewallRefused:
                # A dead run's guard may be removing the same rules: then there are fewer the next time.
                if attempt == _REMOVAL_ATTEMPTS - 1:
                    raise

    def _explain(self, family: _Family, plan: Plan) -> None:
        """Raise errors.KernelSupportMissing for the first feature that the kernel does not have, if there is one."""
        chain = chain_names(plan.label)[0]
        for rule, feature in _probes():
            lines = [f":{chain} - [0:0]", *([_line("-A", [chain, *rule])] if rule else [])]
            try:
                self._restore(family, _script(lines))
            except errors.FirewallRefused as error:
                raise errors.KernelSupportMissing(feature.name, feature.module, feature.option) from error

    def _saved(self, family: _Family, table: str = "") -> str:
        return self._run([family.save, *(["-t", table] if table else [])])

    def _restore(self, family: _Family, script: str) -> None:
        logger.debug("%s:\n%s", family.restore, script)
        self._run([family.restore, "--noflush", "-w", str(_LOCK_SECONDS)], script)

    def _run(self, command: list[str], script: str = "") -> str:
        program = command[0]
        try:
            result = subprocess.run(
                command,
                check=False,
                input=script,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                pass_fds=self._hold_open,
            )
        except subprocess.TimeoutExpired as error:
            raise errors.FirewallLocked(program, _TIMEOUT) from error
        except OSError as error:
            raise errors.FirewallRefused(program, error.strerror or str(error)) from error
        if result.stderr:
            logger.debug("%s: exit status %d: %s", program, result.returncode, result.stderr.strip())
        if result.returncode == _EXIT_RESOURCE_PROBLEM and "lock" in result.stderr:
            raise errors.FirewallLocked(program, _LOCK_SECONDS)
        if result.returncode:
            raise errors.FirewallRefused(program, _first_line(result.stderr) or f"exit status {result.returncode}")
        return result.stdout


def _probes() -> Iterator[tuple[Sequence[str], Feature]]:
    yield (), _MANGLE
    for rule, name, module, option in _FEATURES:
        yield rule, Feature(name, module, f"CONFIG_NETFILTER_XT_{option}")


def _removals(plan: Plan) -> Iterator[list[str]]:
    for rule in jump_rules(plan):
        yield ["-D", *rule]
    for action in ("-F", "-X"):
        for chain in chain_names(plan.label):
            yield [action, chain]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "").rstrip(
        "."
    )


def _find_family(version: int, program: str) -> _Family:
    paths = [support.find_program(name) for name in (program, f"{program}-save", f"{program}-restore")]
    if not all(paths):
        raise errors.NoFirewallTool(program)
    found = [path or "" for path in paths]
    return _Family(version, *found)
