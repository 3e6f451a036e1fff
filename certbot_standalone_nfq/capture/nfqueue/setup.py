"""Opening a capture by NFQUEUE, all or nothing.

The order makes every moment safe. The queue is bound before a rule sends packets to it. The watchdog stands before
there is a rule to remove. What a dead run left behind is removed while its queue number is ours. The ExitStack in
`open` is the one place that says how all of this is undone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue import state
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, Selection, candidates
from certbot_standalone_nfq.capture.nfqueue.capture import NfqueueCapture
from certbot_standalone_nfq.capture.nfqueue.clients import open_queue
from certbot_standalone_nfq.capture.nfqueue.queue import FOR_CHALLENGES, FOR_WHOLE_PORT, PacketQueue, QueueOccupied
from certbot_standalone_nfq.capture.nfqueue.rule_writer import Rules, RuleWriter, State
from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog
from certbot_standalone_nfq.capture.protocols import port_of
from certbot_standalone_nfq.engine.protocols import Selector, Transport
from certbot_standalone_nfq.host import claims, tracking
from certbot_standalone_nfq.host.firewall.reader import Snapshot, take_snapshot
from certbot_standalone_nfq.host.firewall.rules import Effect, Rule, using_marks_of
from certbot_standalone_nfq.settings import AUTO, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NfqueueBackend:
    """NFQUEUE, with the rules by one program, and one selection of packets."""

    name: str
    """As in the firewall option."""
    kind: str
    make_writer: Callable[[], RuleWriter]
    """Raises errors.NoFirewallTool if the program is not there."""
    selection: Selection
    settings: Settings
    snapshot: Snapshot
    """The rules of other programs."""
    tracks: ClassVar[bool] = True

    @property
    def burden(self) -> int:
        """How much of bystanders' traffic leaves the kernel: the selection's rank."""
        return list(Selection).index(self.selection)

    def unsupported(self, _: Sequence[Selector] = ()) -> errors.Error | None:
        """Return that the program is not there, or None."""
        try:
            self.make_writer()
        except errors.NoFirewallTool as error:
            return error
        return None

    def open(self, selectors: Sequence[Selector], held: contextlib.ExitStack) -> NfqueueCapture:
        """Capture what the selectors select. Raises one of the package's errors, with nothing left; see Backend."""
        writer = self.make_writer()
        port = port_of(selectors)
        snapshot = take_snapshot() if _remove_leftovers(writer, port) else self.snapshot
        with contextlib.ExitStack() as undo:
            undo.push(held)
            allocation, queue = self._allocate(writer, selectors, snapshot, held)
            if self.settings.lasting:
                _claim(allocation.queue, held)
            watchdog, rules = Watchdog(), Rules(writer, allocation, lasting=self.settings.lasting)
            held.callback(_dismiss, watchdog, rules)
            # A process that is stopped decides on no packet: of a whole port, that is every visitor's.
            watchdog.start(writer.removals(allocation), watch_for_stop=self.selection is not Selection.PREFILTER)
            held.push(rules)
            rules.install(hold_open=watchdog.pipe)
            self._log(allocation)
            undo.pop_all()
            return NfqueueCapture(self.name, allocation, queue, rules, held)

    def _allocate(
        self, writer: RuleWriter, selectors: Sequence[Selector], snapshot: Snapshot, held: contextlib.ExitStack
    ) -> tuple[Allocation, PacketQueue]:
        """Return the first allocation whose queue and marks are free, and its queue, bound, which `held` closes."""
        configuration = FOR_CHALLENGES if self.selection is Selection.PREFILTER else FOR_WHOLE_PORT
        marks = None if self.settings.mark is None else Marks.from_mask(self.settings.mark)
        reasons: list[errors.Error] = []
        conflict: Rule | None = None
        transports = dict.fromkeys(selector.transport for selector in selectors)
        rules = [rule for each in transports for rule in using_marks_of(snapshot.over(each), port_of(selectors))]
        wanted = functools.partial(
            candidates, selectors, self.settings.queue, marks, self.selection, tracked=_tracks(selectors, snapshot)
        )
        first = wanted()
        for allocation in (*first, *wanted(spare=True)):
            if allocation not in first and (conflict is None or marks is not None):
                break
            rule = next((rule for rule in rules if writer.conflicts(allocation, rule)), None)
            attempt = contextlib.ExitStack()
            held.push(attempt)
            try:
                queue = open_queue(allocation.queue, self.settings.queue_client, configuration, attempt)
            except QueueOccupied:
                reasons.append(errors.queue_in_use(allocation.queue))
                continue
            if rule is None:
                return allocation, queue
            attempt.close()
            conflict = rule
            reasons.append(errors.mark_in_use(allocation.marks.both, rule.text))
        if marks is None and conflict:
            raise errors.MarksInUse(conflict.text)
        if self.settings.queue is not None or marks is not None:
            raise reasons[0]
        raise errors.no_free_queue(reasons[0].cause)

    def _log(self, allocation: Allocation) -> None:
        logger.debug(
            "Rules for port %d by %s, queue %d, marks %#x, selection %s",
            allocation.port,
            self.name,
            allocation.queue,
            allocation.marks.both,
            allocation.selection.value,
        )


def _tracks(selectors: Sequence[Selector], snapshot: Snapshot) -> bool:
    """Whether rules may use connection tracking.

    They would have it begin where it is not in use, for all packets. A name server that thousands of clients ask each
    second is often without, as their flows would fill the table, and further packets would be dropped.
    """
    if all(selector.transport is Transport.TCP for selector in selectors):
        return True
    tables = (table for transport in Transport for table in snapshot.over(transport))
    translating = (rule.effect is Effect.TRANSLATE for table in tables for rule in table.incoming())
    return tracking.in_use() or any(translating)


def nfqueue_backends(
    name: str, kind: str, make_writer: Callable[[], RuleWriter], settings: Settings, snapshot: Snapshot
) -> list[NfqueueBackend]:
    """Return a program's backends, one for each selection that the user allows.

    For days on end, no bystander's packets leave the kernel.
    """
    selections = list(Selection) if settings.selection == AUTO else [Selection(settings.selection)]
    if settings.lasting:
        selections = [Selection.PREFILTER]
    return [NfqueueBackend(name, kind, make_writer, selection, settings, snapshot) for selection in selections]


def _claim(queue: int, held: contextlib.ExitStack) -> None:
    """Let others know that the queue is a service's."""
    with contextlib.suppress(claims.Claimed, OSError):
        held.callback(claims.Claim(state.OF_A_SERVICE, str(queue)).close)


def _dismiss(watchdog: Watchdog, rules: Rules) -> None:
    """Dismiss the watchdog, unless there may be something left for it to do."""
    if rules.state is State.ABSENT:
        watchdog.dismiss()
    else:
        watchdog.stay_on_duty()


def _remove_leftovers(writer: RuleWriter, port: int) -> bool:
    """Remove the rules of interrupted runs, whose queues have no listener; return whether there were any."""
    found = False
    for run_id in sorted(writer.installed()):
        try:
            queue = open_queue(run_id.queue, "netlink")
        except QueueOccupied:
            continue  # a run that is alive
        found = True
        logger.info("Removing firewall rules that an interrupted run left behind (queue %d).", run_id.queue)
        try:
            writer.remove(run_id, port)
        except errors.Error as error:
            logger.warning("They are harmless, but could not be removed. %s", getattr(error, "said", error))
        finally:
            queue.close()
    return found
