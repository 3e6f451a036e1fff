"""The firewall as the interception needs it: what every backend can do, and the choice of one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.iptables import backend as iptables
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, RunId
from certbot_standalone_nfq.capture.nftables import backend as nftables
from certbot_standalone_nfq.settings import AUTO, FIREWALLS

logger = logging.getLogger(__name__)


class Firewall(Protocol):
    """One way of putting rules into the kernel."""

    name: str
    marks_connections: bool
    """Whether it remembers connections by their mark."""

    def install(self, allocation: Allocation, hold_open: int) -> None:
        """Put a plan's rules in place, all or none. Raises errors.KernelSupportMissing and its like.

        Programs that are run for it keep the file descriptor open, so that its end comes only after theirs.
        """

    def remove(self, run_id: RunId, drain: Callable[[], None] = lambda: None) -> None:
        """Remove all rules of the plan with this label; what is not there is no error.

        `drain` is called when no further packet is led to the queue, and nothing has been done yet to those in it.
        """

    def installed(self) -> set[RunId]:
        """Return the labels of all plans whose rules, or parts of them, are in place."""

    def conflict(self, allocation: Allocation) -> str | None:
        """Return a rule of somebody else's that uses the plan's queue or marks, or None."""

    def removal_commands(self, allocation: Allocation) -> list[list[str]]:
        """Return the commands that remove a plan's rules, for a process that outlives this one."""


def available(choice: str = AUTO) -> Iterator[Firewall]:
    """Yield the backends to try in turn. Raises errors.NoFirewallTool if there is none."""
    names = FIREWALLS if choice == AUTO else (choice,)
    missing: list[errors.NoFirewallTool] = []
    for name in names:
        try:
            yield _backend(name)
        except errors.NoFirewallTool as error:
            logger.debug("Not using %s: %s", name, error)
            missing.append(error)
    if len(missing) == len(names):
        raise missing[0] if choice != AUTO else errors.NoFirewallTool("iptables or nft", "iptables or nftables")


def _backend(name: str) -> Firewall:
    return nftables.NftablesFirewall() if name == nftables.NAME else iptables.IptablesFirewall(name)
