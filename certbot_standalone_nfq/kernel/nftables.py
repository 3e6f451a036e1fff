"""The firewall's rules through nft, in a table that vanishes with this process where the kernel can do that."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.kernel import nft_program, support
from certbot_standalone_nfq.kernel import nftables_rules as rules
from certbot_standalone_nfq.kernel.nft_program import Session
from certbot_standalone_nfq.kernel.nftables_rules import Payload
from certbot_standalone_nfq.kernel.plan import Label, Plan
from certbot_standalone_nfq.kernel.support import Feature

logger = logging.getLogger(__name__)

NAME = "nftables"

_FEATURES = {
    "nf_tables": Feature("nftables", "nf_tables", "CONFIG_NF_TABLES_INET"),
    "nft_ct": Feature("connection tracking for nftables", "nft_ct", "CONFIG_NFT_CT"),
    "nft_queue": Feature("queue statement for nftables", "nft_queue", "CONFIG_NFT_QUEUE"),
}
_IDLE_SECONDS = 1.0


class NftablesFirewall:
    """The rules by nft. Everything it raises is one of the package's errors."""

    name = NAME
    marks_connections = False

    def __init__(self) -> None:
        """Find the program. Raises errors.NoFirewallTool."""
        self._program = nft_program.find()
        self._session: Session | None = None
        self._plan: Plan | None = None

    def install(self, plan: Plan, hold_open: int) -> None:
        """Put the plan's table in place, the hooks last; nothing stays if that fails."""
        self._session = Session(self._program, (hold_open,))
        self._plan = plan
        try:
            self._install(plan, self._session)
        except BaseException:
            self._session.close()
            self._session = None
            with contextlib.suppress(errors.Error):  # of the two errors, the first says more
                self._delete(plan.label)
            raise

    def remove(self, label: Label, drain: Callable[[], None] = lambda: None) -> None:
        """Remove a plan's table, once nothing waits in any queue, as the kernel would drop it."""
        session, plan = self._session, self._plan
        if not session or not plan or plan.label != label:
            self._delete(label)
            return
        self._session = None
        with contextlib.suppress(errors.FirewallRefused):  # as when somebody has killed nft
            session.run(rules.withdrawal_commands(plan))
        drain()
        _wait_for_empty_queues()
        with contextlib.suppress(errors.FirewallRefused):
            session.run([rules.removal_command(label)])
        session.close()
        self._delete(label)

    def installed(self) -> set[Label]:
        """Return the labels in the names of all tables of ours."""
        return rules.labels(self._listed("tables"))

    def conflict(self, plan: Plan) -> str | None:
        """Return a rule of nft's that uses the plan's marks or queue."""
        return rules.conflicting_rule(self._listed("ruleset"), plan)

    def removal_commands(self, plan: Plan) -> list[list[str]]:
        """Return the one command that removes the table. It fails where the table has vanished already."""
        return [[self._program, rules.removal_command(plan.label)]]

    def _install(self, plan: Plan, session: Session) -> None:
        refused = _try_each_way(plan, session)
        if refused:
            support.load_modules(*_FEATURES)
            refused = _try_each_way(plan, session)
        if refused:
            self._explain(plan)
            raise refused

    def _explain(self, plan: Plan) -> None:
        """Raise errors.KernelSupportMissing for the first feature that the kernel lacks, if any."""
        for module, commands in rules.probes(plan).items():
            try:
                nft_program.run(self._program, commands=commands)
            except errors.FirewallRefused as error:
                feature = _FEATURES[module]
                raise support.lack(feature) from error

    def _delete(self, label: Label) -> None:
        if label not in self.installed():
            return
        try:
            nft_program.run(self._program, commands=[rules.removal_command(label)])
        except errors.FirewallRefused:
            # A dead run's guard may have been quicker.
            if label in self.installed():
                raise

    def _listed(self, what: str) -> str:
        """Return what nft lists, without the elements of sets: nothing, if the kernel knows of no tables."""
        try:
            return nft_program.run(self._program, "--terse", "list", what)
        except errors.FirewallRefused as error:
            logger.debug("%s", error)
            return ""


def _try_each_way(plan: Plan, session: Session) -> errors.Error | None:
    """Put the plan in place in the best way that the kernel and nft can do; return the first way's error if none."""
    reason: errors.Error | None = None
    for owned, payload in itertools.product((True, False), Payload):
        try:
            session.run(rules.install_commands(plan, payload, owned))
        except errors.FirewallRefused as error:
            reason = reason or error
            with contextlib.suppress(errors.FirewallRefused):
                session.run([rules.removal_command(plan.label)])
        else:
            logger.debug("nft: the payload by %s, %s", payload.name, "owned" if owned else "with a guard alone")
            return None
    return reason


def _wait_for_empty_queues() -> None:
    """Wait, not for long, until no packet waits in any queue of this network namespace, other programs' included."""
    deadline = time.monotonic() + _IDLE_SECONDS
    while support.waiting_packets() and time.monotonic() < deadline:
        time.sleep(0.001)
