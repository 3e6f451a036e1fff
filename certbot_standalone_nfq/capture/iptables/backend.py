"""Rules by iptables and ip6tables, in their nf_tables or their legacy variant."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.iptables import features, rules
from certbot_standalone_nfq.capture.nfqueue import rule_writer
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, RunId, Selection, run_ids
from certbot_standalone_nfq.capture.nfqueue.removal import STEP_TRIES, Removal
from certbot_standalone_nfq.capture.nfqueue.setup import NfqueueBackend, nfqueue_backends
from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.addresses import has_ipv6
from certbot_standalone_nfq.host.command import Result, find_program, run
from certbot_standalone_nfq.host.firewall.iptables_save import is_incomplete
from certbot_standalone_nfq.host.firewall.reader import IPTABLES, Snapshot
from certbot_standalone_nfq.host.firewall.rules import Rule
from certbot_standalone_nfq.settings import DEFAULT_PORTS, Settings

logger = logging.getLogger(__name__)

LOCK_SECONDS = 10
"""How long a program waits for another one to release the xtables lock."""
TIMEOUT = 30
"""Seconds after which a program that does not end is killed."""
_REMOVAL_ATTEMPTS = 10
_ABSENT = (
    "No chain/target/match by that name",
    "DEL failed (No such file or directory)",  # iptables-nft 1.8.2 and earlier
    "Table does not exist",
    "Address family not supported by protocol",
)
"""What the programs say of a chain that does not exist, or cannot."""
_NO_SUCH_RULE = ("does a matching rule exist", "Couldn't load target", "does not exist")
"""What they say of a rule that does not exist, or whose target does not."""
_NFT_FAMILIES = {4: "ip", 6: "ip6"}
_EXIT_RESOURCE_PROBLEM = 4  # iptables' own name for it; the lock, most often


@dataclass(frozen=True)
class _Family:
    """The programs for one IP version."""

    version: int
    program: str
    save: str
    restore: str


def backends(settings: Settings, snapshot: Snapshot) -> list[NfqueueBackend]:
    """Return the backends to try in turn: each variant, with each selection that the user allows."""
    return [
        backend
        for variant in IPTABLES
        for backend in nfqueue_backends(
            variant, "iptables", functools.partial(IptablesWriter, variant), settings, snapshot
        )
    ]


class IptablesWriter:
    """The rules by one variant of iptables. Everything it raises is one of the package's errors."""

    def __init__(self, variant: str = "iptables") -> None:
        """Find the programs. Raises errors.NoFirewallTool if those for IPv4 are not there."""
        self.name = variant
        self._hold_open: tuple[int, ...] = ()
        self._families = [_find_family(4, variant)]
        self._without_ipv6: errors.NoFirewallTool | None = None
        if has_ipv6():
            try:
                self._families.append(_find_family(6, variant.replace("ip", "ip6", 1)))
            except errors.NoFirewallTool as error:
                self._without_ipv6 = error

    def install(self, allocation: Allocation, hold_open: int) -> None:
        """Add the rules, for each IP version in one transaction."""
        if self._without_ipv6:
            logger.warning("Requests over IPv6 cannot be answered. %s", self._without_ipv6)
        self._hold_open = (hold_open,)
        try:
            for family in list(self._families):
                self._install_or_omit(allocation, family)
        finally:
            self._hold_open = ()

    def is_missing(self, allocation: Allocation) -> bool:
        """Whether the jump is missing that every selection has, in an IP version."""
        results = [self._result(_command(family, rules.jump_check(allocation))) for family in self._families]
        return any(phrase in result.complaint for result in results for phrase in (*_ABSENT, *_NO_SUCH_RULE))

    def withdraw(self, allocation: Allocation) -> bool:
        """Remove all rules: what waits in the queue does not need them."""
        with contextlib.ExitStack() as families:  # each is cleared, whatever becomes of the other
            for family in reversed(self._families):
                families.callback(self._undo, family, allocation)
        return False

    def remove(self, run_id: RunId, port: int) -> None:
        """Remove all rules of a run: those that a listing shows; without one, those that jump for a port of ours."""
        with contextlib.ExitStack() as families:
            for family in reversed(self._families):
                families.callback(self._remove_from, family, run_id, port)

    def installed(self) -> set[RunId]:
        """Return the runs in the names of all chains of ours."""
        return {run_id for family in self._families for run_id in run_ids(self._text_with_names(family))}

    def conflicts(self, allocation: Allocation, rule: Rule) -> bool:
        """Whether another program's rule uses the queue or the marks; only the prefilter marks connections."""
        connection_marks = allocation.marks.connection if allocation.selection is Selection.PREFILTER else 0
        return rule.uses(allocation.queue, allocation.marks.both, connection_marks)

    def removals(self, allocation: Allocation) -> list[Removal]:
        """Return one for each IP version."""
        return [_removal(family, allocation) for family in self._families]

    def _install_or_omit(self, allocation: Allocation, family: _Family) -> None:
        """Install for an IP version; where the kernel lacks something for IPv6 alone, IPv4 has to do."""
        try:
            self._install_family(allocation, family)
        except errors.KernelSupportMissing as error:
            if family.version == 4:
                raise
            self._families.remove(family)
            logger.warning("Requests over IPv6 cannot be answered. %s", error)

    def _install_family(self, allocation: Allocation, family: _Family) -> None:
        script = rules.install_script(allocation, family.version)
        try:
            self._restore(family, script)
        except errors.FirewallRefused:
            kernel_modules.load(*(feature for _, feature in features.probes(script, family.version)))
            if not self._accepts(family, allocation, features.MEMORY):
                script = rules.without_memory(script)
            try:
                self._restore(family, script)
            except errors.FirewallRefused:
                self._explain(family, allocation, script)
                raise

    def _accepts(self, family: _Family, allocation: Allocation, rule: str) -> bool:
        try:
            self._restore(family, rules.probe_script(allocation, rule))
        except errors.FirewallRefused:
            return False
        return True

    def _remove_from(self, family: _Family, run_id: RunId, port: int) -> None:
        # A dead run's watchdog may be removing the same rules: then there are fewer the next time.
        for _ in range(_REMOVAL_ATTEMPTS):
            saved = self._saved(family)
            script = None if saved is None else rules.removal_script(saved, run_id)
            if script is None:
                break
            with contextlib.suppress(errors.FirewallRefused):
                self._restore(family, script)
        self._undo_in_steps(
            _removal_in_steps(family, run_id, [port] if saved is not None else {port, *DEFAULT_PORTS.values()})
        )

    def _undo(self, family: _Family, allocation: Allocation) -> None:
        removal = _removal(family, allocation)
        try:
            self._run(removal.transaction, removal.script)
        except errors.FirewallRefused:  # something is missing already, or another program's rules are in its way
            self._undo_in_steps(removal)
        except errors.FirewallLockDenied:  # as when they were to be added; a listing needs no lock
            saved = self._saved(family)
            if saved is None or allocation.run_id in run_ids(saved):
                raise

    def _undo_in_steps(self, removal: Removal) -> None:
        """Remove what is there. Raises errors.FirewallRefused unless it is proven that nothing is left."""
        for step in removal.steps:
            tries = (self._result(step) for _ in range(STEP_TRIES))
            next((result for result in tries if result.status != 0), None)
        for proof in removal.proofs:
            result = self._result(proof)
            if not removal.proven_by(result.complaint):
                self._check(proof[0], result)

    def _explain(self, family: _Family, allocation: Allocation, script: str) -> None:
        """Raise errors.KernelSupportMissing for the first feature in a script that the kernel lacks, if any.

        What the tool does not take for another reason is raised as it is.
        """
        for rule, feature in features.probes(script, family.version):
            try:
                self._restore(family, rules.probe_script(allocation, rule))
            except errors.FirewallRefused as error:
                if not kernel_modules.is_lack(error.reason):
                    raise
                by_nf_tables = feature in features.TABLES.values() and "(nf_tables)" in error.reason
                raise kernel_modules.lack(kernel_modules.NF_TABLES if by_nf_tables else feature) from error

    def _text_with_names(self, family: _Family) -> str:
        """Return something that names the chains; warn if there is nothing that names them all."""
        saved = self._saved(family)
        if saved is not None:
            return saved
        by_nft = find_program("nft")
        if self.name != "iptables-legacy" and by_nft:
            result = self._result([by_nft, "list", "table", _NFT_FAMILIES[family.version], rules.TABLE])
            if result.status == 0:
                return result.stdout
        hooks = [self._result(_command(family, f"-S {hook}")) for hook in rules.HOOKS]
        if any(result.complaint for result in hooks):
            rule_writer.warn_of_leftovers(family.save)
        return "\n".join(result.stdout for result in hooks)

    def _saved(self, family: _Family) -> str | None:
        """Return the table's rules as the tool shows them, or None if it does not show all."""
        result = self._result([family.save, "-t", rules.TABLE])
        if result.status == 0:
            return None if is_incomplete(result.stdout + result.stderr) else result.stdout
        return "" if any(phrase in result.complaint for phrase in _ABSENT) else None

    def _restore(self, family: _Family, script: str) -> None:
        logger.debug("%s:\n%s", family.restore, script)
        self._run([family.restore, "--noflush", "-w", str(LOCK_SECONDS)], script)

    def _run(self, command: Sequence[str], script: str = "") -> None:
        self._check(command[0], self._result(command, script))

    def _result(self, command: Sequence[str], script: str = "") -> Result:
        result = run(command, seconds=TIMEOUT, stdin=script, pass_fds=self._hold_open)
        if result.timed_out:
            raise errors.firewall_hangs(command[0], TIMEOUT)
        if result.stderr:
            logger.debug("%s: exit status %s: %s", command[0], result.status, result.stderr.strip())
        return result

    def _check(self, program: str, result: Result) -> None:
        """Raise what it means that a program failed, if it did."""
        if result.status is None:
            raise errors.FirewallRefused(program, result.failure)
        if result.status == _EXIT_RESOURCE_PROBLEM:
            raise _resource_problem(program, result.stderr)
        if result.status:
            raise errors.FirewallRefused(program, _gist(result.stderr) or f"exit status {result.status}")


def _removal(family: _Family, allocation: Allocation) -> Removal:
    script = rules.whole_removal_script(allocation)
    return _removal_in_steps(family, allocation.run_id, [allocation.port], script)


def _removal_in_steps(family: _Family, run_id: RunId, ports: Iterable[int], script: str = "") -> Removal:
    return Removal(
        transaction=(family.restore, "--noflush", "-w", str(LOCK_SECONDS)),
        script=script,
        steps=tuple(_command(family, step) for port in ports for step in rules.removal_steps(run_id, port)),
        proofs=tuple(_command(family, deletion) for deletion in rules.chain_deletions(run_id)),
        absent=_ABSENT,
    )


def _command(family: _Family, arguments: str) -> tuple[str, ...]:
    return (family.program, "-w", str(LOCK_SECONDS), "-t", rules.TABLE, *arguments.split())


def _resource_problem(program: str, complaint: str) -> errors.Error:
    if "lock file" in complaint and "ermission denied" in complaint:
        return errors.FirewallLockDenied(program)
    if "xtables lock" in complaint:
        return errors.firewall_locked(program, LOCK_SECONDS)
    return errors.FirewallRefused(program, _gist(complaint))


def _gist(complaint: str) -> str:
    """Return what a tool says, without its comments, and without where it has help."""
    lines = [
        line.strip() for line in complaint.splitlines() if not line.startswith(("#", "Try `", "Error occurred at"))
    ]
    return " ".join(filter(None, lines)).rstrip(".")


def _find_family(version: int, program: str) -> _Family:
    paths = [find_program(name) for name in (program, f"{program}-save", f"{program}-restore")]
    if not all(paths):
        raise errors.NoFirewallTool(program, "iptables")
    found, save, restore = (path or "" for path in paths)
    return _Family(version, found, save, restore)
