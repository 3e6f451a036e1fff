"""Taking hold of the machine for one interception, all or nothing, and letting it go.

The order makes every moment safe. The queue is bound before a rule leads to it; the guard stands before
there is anything to guard; what a dead run left behind is removed while its queue number is ours.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice as firewalls
from certbot_standalone_nfq.capture.choice import Firewall
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, Selection, candidates
from certbot_standalone_nfq.capture.nfqueue.netlink_client import NetlinkQueue
from certbot_standalone_nfq.capture.nfqueue.queue import (
    FOR_CHALLENGES,
    FOR_WHOLE_PORT,
    Configuration,
    PacketQueue,
    QueueOccupied,
)
from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.settings import AUTO, Settings

logger = logging.getLogger(__name__)

_MISSING = (errors.KernelSupportMissing, errors.MarksInUse)


@dataclass
class Claim:
    """What one interception holds. The rules are in place."""

    allocation: Allocation
    queue: PacketQueue
    firewall: Firewall
    guard: Watchdog

    def remove_rules(self, drain: Callable[[], None]) -> None:
        """Remove the rules; `drain` is to see to the packets that wait for their verdict by then."""
        self.firewall.remove(self.allocation.run_id, drain)

    def release(self) -> None:
        """Give everything back at once; what waits in the queue is dropped, and comes again as TCP has it."""
        self.remove_rules(lambda: None)
        self.queue.close()
        self.guard.dismiss()


def claim(settings: Settings, selectors: Sequence[Selector]) -> Claim:
    """Take hold. Raises one of the package's errors, with nothing left behind."""
    privileges.require_capabilities()
    refusals: list[errors.Error]
    reason: errors.Error | None = None
    for selection in Selection if settings.selection == AUTO else [Selection(settings.selection)]:
        refusals = []
        held = _claim_by_any_firewall(selectors, selection, settings, refusals)
        if held and reason:
            logger.warning(
                "Until the validation is over, every packet to port %d goes through Certbot, which slows "
                "that port down. %s",
                settings.port,
                reason,
            )
        if held:
            return held
        reason = reason or refusals[0]
        if not any(isinstance(refusal, _MISSING) for refusal in refusals):
            break  # only what is missing may not be missed by the next selection
    raise refusals[0]  # the first firewall's, which is the administrator's own choice


def _claim_by_any_firewall(
    selectors: Sequence[Selector], selection: Selection, settings: Settings, refusals: list[errors.Error]
) -> Claim | None:
    """Take hold by the first firewall that works; add to the refusals what the others say."""
    for firewall in firewalls.available(settings.firewall):
        if firewall.marks_connections and any(isinstance(refusal, errors.MarksInUse) for refusal in refusals):
            continue  # every variant of iptables does, and sees the same rules
        try:
            return _claim_with(firewall, selectors, selection, settings)
        except (*_MISSING, errors.FirewallRefused, errors.FirewallLockDenied) as error:
            logger.debug("Not using %s: %s", firewall.name, error)
            refusals.append(error)
    return None


def _claim_with(firewall: Firewall, selectors: Sequence[Selector], selection: Selection, settings: Settings) -> Claim:
    _remove_leftovers(firewall, settings)
    allocation, queue = _choose(firewall, selectors, selection, settings)
    guard = Watchdog()
    with contextlib.ExitStack() as undo:
        undo.callback(queue.close)
        undo.callback(guard.dismiss)
        guard.start(firewall.removal_commands(allocation))
        firewall.install(allocation, hold_open=guard.pipe)
        undo.pop_all()
    logger.debug(
        "Rules for port %d by %s, queue %d, marks %#x, selection %s",
        allocation.port,
        firewall.name,
        allocation.queue,
        allocation.marks.both,
        allocation.selection.value,
    )
    return Claim(allocation, queue, firewall, guard)


def _choose(
    firewall: Firewall, selectors: Sequence[Selector], selection: Selection, settings: Settings
) -> tuple[Allocation, PacketQueue]:
    """Return the first plan whose queue and marks are free, its queue bound."""
    configuration = FOR_CHALLENGES if selection is Selection.PREFILTER else FOR_WHOLE_PORT
    reasons: list[errors.Error] = []
    conflicts: list[str] = []
    marks = None if settings.mark is None else Marks.from_mask(settings.mark)
    for allocation in candidates(selectors, settings.queue, marks, selection):
        try:
            queue = _open_queue(allocation.queue, settings.queue_client, configuration)
        except QueueOccupied:
            reasons.append(errors.queue_in_use(allocation.queue))
            continue
        rule = firewall.conflict(allocation)
        if rule is None:
            return allocation, queue
        queue.close()
        conflicts.append(rule)
        reasons.append(errors.mark_in_use(allocation.marks.both, rule))
    if marks is None and conflicts:
        raise errors.MarksInUse(conflicts[-1])
    if settings.queue is not None or marks is not None:
        raise reasons[0]
    raise errors.no_free_queue(reasons[0].cause)


def _remove_leftovers(firewall: Firewall, settings: Settings) -> None:
    """Remove the rules of runs that were cut off: those whose queue nobody listens to."""
    for run_id in sorted(firewall.installed()):
        try:
            queue = _open_queue(run_id.queue, settings.queue_client)
        except QueueOccupied:
            continue  # a run that is alive
        logger.info("Removing firewall rules that an interrupted run left behind (queue %d).", run_id.queue)
        try:
            firewall.remove(run_id)
        except errors.FirewallRefused as error:
            logger.warning("They are harmless, but could not be removed. %s", error.said)
        finally:
            queue.close()


def _open_queue(number: int, client: str, configuration: Configuration = FOR_CHALLENGES) -> PacketQueue:
    """Become a queue's listener. Raises QueueOccupied, or one of the package's errors."""
    installed = importlib.util.find_spec("fnfqueue") is not None
    if client == "fnfqueue" and not installed:
        raise errors.queue_client_missing()
    # fnfqueue hands packets on from thread to thread, which a whole port's bystanders would have to wait for.
    prefer_netlink = client == AUTO and configuration is FOR_WHOLE_PORT
    if client == "netlink" or prefer_netlink or not installed:
        return NetlinkQueue(number, configuration)
    try:
        from certbot_standalone_nfq.capture.nfqueue.fnfqueue_client import FnfqueueQueue
    except (Exception, SystemExit) as error:  # whatever a damaged or unfit package raises
        errors.raise_interruption(error)
        reason = f"{type(error).__name__}: {error}"
        if client == "fnfqueue":
            raise errors.package_unusable("fnfqueue", reason) from error
        logger.debug("The fnfqueue package cannot be loaded, and is done without: %s", reason)
        return NetlinkQueue(number, configuration)
    return FnfqueueQueue(number, configuration)
