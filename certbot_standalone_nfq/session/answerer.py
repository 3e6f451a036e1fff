"""Answering any http-01 token of accounts, for names, on one port: for as long as a service runs."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.protocols import Capture
from certbot_standalone_nfq.capture.situation import AHEAD_OF_RULES
from certbot_standalone_nfq.challenges.http01.any_token import AnyTokenSolver
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.engine.verdicts import Answered, Event
from certbot_standalone_nfq.host import claims, refusals
from certbot_standalone_nfq.host.firewall.changes import RuleChanges
from certbot_standalone_nfq.host.firewall.reader import Snapshot, take_snapshot
from certbot_standalone_nfq.host.service import service
from certbot_standalone_nfq.session import tokens
from certbot_standalone_nfq.session.acceptor import Answering
from certbot_standalone_nfq.session.answer_log import AnswerLog
from certbot_standalone_nfq.session.guard import WORDS, Guard
from certbot_standalone_nfq.session.interception import Interception, Parts
from certbot_standalone_nfq.session.listener import FallbackListener
from certbot_standalone_nfq.settings import HTTP_01, Settings
from certbot_standalone_nfq.wire.addresses import VERSIONS, version_of

logger = logging.getLogger(__name__)

CLAIM = "answer"
"""What a process claims for each name, together with the port."""


class Answerer:
    """Owns all that it holds from `open` to `close`, which releases it whatever was interrupted."""

    def __init__(
        self, settings: Settings, log: AnswerLog, failed: Callable[[], object], *, listen: bool = False
    ) -> None:
        """Prepare; this changes nothing. `failed` is called on another thread if it can answer no more.

        With `listen`, it accepts connections where nothing else does.
        """
        self._settings = settings
        self._number = settings.ports[HTTP_01]
        self._log = log
        self._failed = failed
        self._listen = listen
        self._names: dict[str, str] = {}
        self._claims: dict[str, claims.Claim] = {}
        self._interception: Interception
        self._held = contextlib.ExitStack()

    @refusals.explained()
    def open(self, wanted: Mapping[str, str]) -> None:
        """Answer for names, each with its account's thumbprint. Raises one of the package's errors. Then, `close`."""
        self._held.callback(self._give_up, self._claims)
        self._claim(wanted)
        rules = take_snapshot()
        changes = self._changes()
        solver = AnyTokenSolver(tokens.is_claimed)
        parts = Parts([solver], functools.partial(_guard, changes), claims=False, failed=self._failed)
        port = ChallengePort(self._number, (AnyTokenSolver,))
        interception = Interception(port, self._settings, rules, self._tell, parts=parts)
        self._held.callback(interception.stop)
        interception.start()
        self._interception = interception
        if interception.is_ahead_of_rules:
            solver.decides_early = True
            self._claim_to_be_ahead()
        self._answer(wanted)
        if self._listen:
            self._begin_to_listen(interception, rules)
        else:
            self._warn_without_listener(rules)

    def _begin_to_listen(self, interception: Interception, rules: Snapshot) -> None:
        answering = Answering(interception.recognise, interception.refuse)
        listener = FallbackListener(self._number, self._settings.address, rules, answering)
        self._held.callback(listener.stop)
        listener.start()

    def _warn_without_listener(self, rules: Snapshot) -> None:
        with contextlib.suppress(OSError):
            served = service(self._number, rules)
            if not any(served.has(version) for version in VERSIONS):
                logger.warning(
                    "Nothing listens on port %d yet. No request comes before a server does, or --listen is given.",
                    self._number,
                )

    @refusals.explained()
    def change(self, wanted: Mapping[str, str]) -> None:
        """Answer for these names from now on. All or nothing: raises one of the package's errors."""
        self._claim(wanted)
        self._answer(wanted)
        dropped = {name: claim for name, claim in self._claims.items() if name not in wanted}
        self._give_up(dropped)
        for name in dropped:
            del self._claims[name]

    def responds_within(self, seconds: float) -> bool:
        """Whether requests are still answered."""
        return self._interception.responds_within(seconds)

    def close(self) -> None:
        """Complete the answers under way and release everything. Raises one of the package's errors if rules stay."""
        self._held.close()

    def _changes(self) -> RuleChanges | None:
        try:
            changes = RuleChanges(*WORDS)
        except OSError as error:
            logger.debug("The kernel does not tell of changed rules: %s", error)
            return None
        self._held.callback(changes.close)
        return changes

    def _answer(self, wanted: Mapping[str, str]) -> None:
        dropped = map(_challenge, self._names.keys() - wanted.keys())
        self._interception.change({_challenge(name): thumbprint for name, thumbprint in wanted.items()}, dropped)
        self._names = dict(wanted)

    def _claim(self, names: Iterable[str]) -> None:
        """Claim the names that are new, all or none."""
        made: dict[str, claims.Claim] = {}
        with contextlib.ExitStack() as undo:
            undo.callback(self._give_up, made)
            for name in names:
                if name not in self._claims:
                    self._try_to_claim(name, made)
            undo.pop_all()
        self._claims.update(made)

    def _try_to_claim(self, name: str, made: dict[str, claims.Claim]) -> None:
        try:
            made[name] = claims.Claim(CLAIM, str(self._number), name)
        except claims.Claimed as error:
            if error.holder.trusted:
                raise self._answered_by(error.holder, name) from error
            logger.warning("%s, another user's, claims to answer for %s. It is not heeded.", error.holder, name)

    def _claim_to_be_ahead(self) -> None:
        """Have Certbot's runs capture ahead of rules, too, so that they get the requests for their own tokens first."""
        with contextlib.suppress(claims.Claimed):  # one such claim is enough
            self._held.callback(claims.Claim(AHEAD_OF_RULES, str(self._number)).close)

    def _answered_by(self, holder: claims.Holder, name: str) -> errors.Error:
        return errors.ResourceInUse(
            f"{holder} answers for {name} on port {self._number} already.",
            "Stop it or leave the name out. To have a process answer for other names, change its file and reload it.",
        )

    @staticmethod
    def _give_up(given: Mapping[str, claims.Claim]) -> None:
        for claim in given.values():
            claim.close()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Answered):
            peer = event.connection.peer
            self._log.write(
                f"{event.name}: request from {peer} over IPv{version_of(peer)} answered in "
                f"{event.seconds * 1000:.1f} ms, token {event.challenge.key}"
            )


def _guard(changes: RuleChanges | None, capture: Capture[Any]) -> Guard:
    return Guard(capture, changes)


def _challenge(name: str) -> ChallengeId:
    return ChallengeId(HTTP_01, name)
