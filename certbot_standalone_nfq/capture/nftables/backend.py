"""Rules by nft, in a table that vanishes with this process where the kernel can do that."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue import rule_writer, state
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, RunId, Selection, run_ids
from certbot_standalone_nfq.capture.nfqueue.removal import Removal
from certbot_standalone_nfq.capture.nfqueue.setup import NfqueueBackend, nfqueue_backends
from certbot_standalone_nfq.capture.nftables import program, rules
from certbot_standalone_nfq.capture.nftables.program import Session
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import Rule
from certbot_standalone_nfq.settings import Settings

logger = logging.getLogger(__name__)

NAME = "nftables"

_FEATURES = {feature.module: feature for feature in kernel_modules.FOR_NFTABLES}
_IDLE_SECONDS = 1.0
_NO_TABLES = "Protocol not supported"
_ABSENT = ("rror: No such file or directory", "rule: No such file or directory", _NO_TABLES)
"""What nft says of a table that does not exist, and where the kernel knows of no tables."""


def backends(settings: Settings, snapshot: Snapshot) -> list[NfqueueBackend]:
    """Return the backends to try in turn: one for each selection that the user allows."""
    return nfqueue_backends(NAME, NAME, NftablesWriter, settings, snapshot)


class NftablesWriter:
    """The rules by nft. Everything it raises is one of the package's errors."""

    def __init__(self) -> None:
        """Find the program. Raises errors.NoFirewallTool."""
        self._program = program.find()
        self._session: Session | None = None

    def install(self, allocation: Allocation, hold_open: int) -> None:
        """Add a table of our own, the hooks last."""
        self._session = Session(self._program, (hold_open,))
        try:
            self._install(allocation, self._session)
        except BaseException:
            self._end_session()
            raise

    def is_missing(self, allocation: Allocation) -> bool:
        """Whether the table is missing."""
        listed = self._listed()
        return listed is not None and allocation.run_id not in run_ids(listed)

    def withdraw(self, allocation: Allocation) -> bool:
        """Empty the hooks, but for the rule that clears the mark of packets that come back from the queue."""
        commands = rules.withdrawal_commands(allocation)
        try:
            if self._session:
                self._session.run(commands)
        except errors.FirewallRefused:
            listed = self._listed()
            if listed is None:
                raise
            if allocation.run_id in run_ids(listed):  # another program has ended our nft, which did not own its table
                program.run(self._program, commands=commands)
        except BaseException:
            self._end_session()
            raise
        return True

    def remove(self, run_id: RunId, _: int) -> None:
        """Remove a run's table, once nothing waits in any queue."""
        if self._session:
            try:
                state.wait_until_empty(_IDLE_SECONDS)  # the kernel would drop what waits in any queue
                with contextlib.suppress(errors.FirewallRefused):
                    self._session.run([rules.removal_command(run_id)])
            finally:
                self._end_session()
        self._delete(run_id)

    def installed(self) -> set[RunId]:
        """Return the runs in the names of all tables of ours."""
        listed = self._listed()
        if listed is None:
            rule_writer.warn_of_leftovers(self._program)
        return run_ids(listed or "")

    def conflicts(self, allocation: Allocation, rule: Rule) -> bool:
        """Whether another program's rule uses the queue or the marks; connections are not marked."""
        return rule.uses(allocation.queue, allocation.marks.both)

    def removals(self, allocation: Allocation) -> list[Removal]:
        """Return the one command that removes the table. It fails where the table has vanished already."""
        command = (self._program, rules.removal_command(allocation.run_id))
        return [Removal(transaction=command, script="", steps=(), proofs=(command,), absent=_ABSENT)]

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session:
            session.close()

    def _install(self, allocation: Allocation, session: Session) -> None:
        refused = _try_each_way(allocation, session)
        if refused:
            kernel_modules.load(*kernel_modules.FOR_NFTABLES)
            refused = _try_each_way(allocation, session)
        if refused:
            self._explain(allocation)
            raise refused

    def _explain(self, allocation: Allocation) -> None:
        """Raise errors.KernelSupportMissing for the first feature that the kernel lacks, if any.

        What nft does not take for another reason is raised as it is.
        """
        for module, commands in rules.probes(allocation).items():
            try:
                program.run(self._program, commands=commands)
            except errors.FirewallRefused as error:
                if not kernel_modules.is_lack(error.reason):
                    raise
                raise kernel_modules.lack(_FEATURES[module]) from error

    def _delete(self, run_id: RunId) -> None:
        try:
            program.run(self._program, commands=[rules.removal_command(run_id)])
        except errors.FirewallRefused:
            # The table has vanished with our nft, or a dead run's watchdog was quicker.
            listed = self._listed()
            if listed is None or run_id in run_ids(listed):
                raise

    def _listed(self) -> str | None:
        """Return the tables as nft lists them, or None if it does not: none, if the kernel knows of no tables."""
        try:
            return program.run(self._program, "list", "tables")
        except errors.FirewallRefused as error:
            logger.debug("%s", error)
            return "" if _NO_TABLES in error.said else None


def _try_each_way(allocation: Allocation, session: Session) -> errors.Error | None:
    """Add the rules in the best way that the kernel and nft can do; return the first way's error if there is none."""
    reason: errors.Error | None = None
    # The watchdog could not remove an owned table while this process is stopped with a whole port queued.
    ownership = (True, False) if allocation.selection is Selection.PREFILTER else (False,)
    for owned, tried, payload in itertools.product(ownership, _with_and_without_search(allocation), Payload):
        try:
            session.run(rules.install_commands(tried, payload, owned))
        except errors.FirewallRefused as error:
            reason = reason or error
            with contextlib.suppress(errors.FirewallRefused):
                session.run([rules.removal_command(allocation.run_id)])
        else:
            logger.debug(
                "nft: the payload by %s, %s", payload.name, "owned" if owned else "removed by the watchdog alone"
            )
            if tried is not allocation:
                logger.info(
                    "nft's rules cannot search payloads on this kernel, so one packet of each visitor is queued."
                )
            return None
    return reason


def _with_and_without_search(allocation: Allocation) -> list[Allocation]:
    """Return an allocation as it is, and one that selects more, where something is searched for.

    Rules look no further than 255 bytes into a packet (nft_payload_select_ops in net/netfilter/nft_payload.c; Linux
    6.12 has this limit, 6.18 does not). A ClientHello's protocols may come later.
    """
    begin_right = tuple(dataclasses.replace(selector, contains=b"") for selector in allocation.selectors)
    if begin_right == allocation.selectors:
        return [allocation]
    return [allocation, dataclasses.replace(allocation, selectors=begin_right)]
