"""One interception: a capture of a port, the engine with a solver for each of its types, and the loop between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.capture.protocols import Capture
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.protocols import ChallengeId, DatagramSolver, Declined, Recognition, StreamSolver
from certbot_standalone_nfq.engine.recognition import recognise
from certbot_standalone_nfq.engine.verdicts import Event
from certbot_standalone_nfq.host.connections import Connections
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import translates_sources
from certbot_standalone_nfq.session.injector import Injector
from certbot_standalone_nfq.session.keeper import Keeper, Keeping
from certbot_standalone_nfq.session.loop import Loop
from certbot_standalone_nfq.session.tokens import ClaimedTokens
from certbot_standalone_nfq.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What an interception is made of, where that is not as for one validation."""

    solvers: Sequence[StreamSolver] = ()
    """What to ask, in place of new ones of the port's types."""
    keep: Callable[[Capture[Any]], Keeping] = Keeper
    """Returns what looks after a capture."""
    claims: bool = True
    """Whether tokens are claimed, so that who answers any token leaves them alone."""
    failed: Callable[[], object] = lambda: None
    """Called on another thread, if requests can be answered no more."""


class Interception:
    """Answers challenges on one port, from `start` to `stop`."""

    def __init__(  # noqa: PLR0913 - all that it stands between
        self,
        port: ChallengePort,
        settings: Settings,
        rules: Snapshot,
        tell: Callable[[Event], object],
        record: Callable[[bytes], object] | None = None,
        *,
        parts: Parts | None = None,
    ) -> None:
        """Prepare, given the rules of other programs. This changes nothing. For `tell` and `record`, see Loop."""
        self._port = port
        self._settings = settings
        self._rules = rules
        self._tell = tell
        self._record = record
        self._parts = parts or Parts()
        solvers = self._parts.solvers or [solver() for solver in port.solvers]
        self._solvers = {solver.typ: solver for solver in solvers}
        self._tokens = ClaimedTokens()
        self._loop: Loop
        self._keeper: Keeping
        self._opened = contextlib.ExitStack()

    def start(self) -> None:
        """Open everything. All or nothing: raises one of the package's errors.

        An interruption may come at any moment, also when this is about to return. `stop` closes what is open then.
        """
        with contextlib.ExitStack() as undo:
            undo.push(self._opened)
            self._open(self._opened)
            undo.pop_all()

    def _open(self, opened: contextlib.ExitStack) -> None:
        opened.callback(self._tokens.close)
        injector = Injector()
        opened.callback(injector.close)
        sockets = Connections()
        opened.callback(sockets.close)
        translated = translates_sources(self._rules.tables)
        looked_up = sockets.known and not translated
        engine = Engine(list(self._solvers.values()), sockets if looked_up else None)
        capture = choice.open_capture(self._settings, self._port.selectors(), self._rules, opened)
        self._capture = capture
        self._loop = Loop(
            capture,
            engine,
            injector,
            self._tell,
            self._record,
            failed=self._parts.failed,
            sources_translated=translated,
        )
        opened.callback(self._loop.stop)
        self._loop.start()
        self._keeper = self._parts.keep(capture)
        opened.callback(self._keeper.stop)
        self._keeper.start()

    def answer(self, challenge: ChallengeId, key_authorization: str) -> None:
        """Answer a challenge from now on. Raises ValueError for a bad key."""
        if self._parts.claims:
            self._tokens.add(challenge)
        self.change({challenge: key_authorization}, ())

    def change(self, added: Mapping[ChallengeId, str], dropped: Iterable[ChallengeId]) -> None:
        """Answer many at once from now on, each with what answers it, and leave others to the server.

        Raises ValueError for a bad key.
        """
        with self._loop.lock:
            for challenge in dropped:
                self._solvers[challenge.typ].remove(challenge.key, "")
            for challenge, key_authorization in added.items():
                self._solvers[challenge.typ].add(challenge.key, key_authorization)
            self._expect()

    def withdraw(self, challenge: ChallengeId, key_authorization: str) -> None:
        """Leave further requests for a challenge to the server; answers under way are completed."""
        with self._loop.lock:
            self._solvers[challenge.typ].remove(challenge.key, key_authorization)
            self._expect()
        self._tokens.remove(challenge)

    def _expect(self) -> None:
        self._capture.expect([key for solver in self._solvers.values() for key in solver.pending_keys()])

    def recognise(self, received: bytes) -> Recognition:
        """Return what a stream is that begins with these bytes, for use outside of the loop."""
        with self._loop.lock:
            found = recognise(self._solvers.values(), received)
        if isinstance(found, Declined):
            self._tell(found)
        return found

    @property
    def has_datagrams(self) -> bool:
        """Whether some challenge is answered over UDP, too."""
        return any(isinstance(solver, DatagramSolver) for solver in self._solvers.values())

    def reply(self, message: bytes) -> bytes | None:
        """Return what to send back for a datagram where no server receives any, likewise."""
        solvers = [solver for solver in self._solvers.values() if isinstance(solver, DatagramSolver)]
        with self._loop.lock:
            replies = (solver.reply(message) for solver in solvers)
            answered = next((each.data for each in replies if each), None)
            return answered or next((solver.refuse(message) for solver in solvers), None)

    def refuse(self, start: bytes) -> bytes:
        """Return what to send to the client of a stream that is not recognised where no server is, likewise."""
        with self._loop.lock:
            refusals = (
                solver.refuse_stream(start) if isinstance(solver, DatagramSolver) else solver.refusal
                for solver in self._solvers.values()
            )
            return next(filter(None, refusals), b"")

    @property
    def is_ahead_of_rules(self) -> bool:
        """Whether it takes packets before any rule sees them."""
        return not self._capture.by_rules

    def responds_within(self, seconds: float) -> bool:
        """Whether packets are still decided on: not if the loop has ended, or hangs for so long."""
        return self._loop.responds_within(seconds)

    def remarks(self) -> list[str]:
        """Return what the user should know if a challenge has failed, as of now."""
        self._keeper.look()
        return self._keeper.remarks

    def stop(self) -> None:
        """Complete the answers under way, and close everything.

        Raises one of the package's errors if the rules cannot be removed. They are harmless then, as a queue without
        a listener is bypassed, and the watchdog tries again when this process ends.
        """
        self._opened.close()
