"""One interception: a capture of a port, the engine with a solver for each of its types, and the loop between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.challenges.registry import ChallengePort
from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.protocols import ChallengeId, DatagramSolver, Declined, Recognition
from certbot_standalone_nfq.engine.recognition import recognise
from certbot_standalone_nfq.engine.verdicts import Event
from certbot_standalone_nfq.host.connections import Connections
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.host.firewall.rules import translates_sources
from certbot_standalone_nfq.session.injector import Injector
from certbot_standalone_nfq.session.keeper import Keeper
from certbot_standalone_nfq.session.loop import Loop
from certbot_standalone_nfq.settings import Settings


class Interception:
    """Answers challenges on one port, from `start` to `stop`."""

    def __init__(
        self,
        port: ChallengePort,
        settings: Settings,
        rules: Snapshot,
        tell: Callable[[Event], object],
        record: Callable[[bytes], object] | None = None,
    ) -> None:
        """Prepare, given the rules of other programs. This changes nothing. For `tell` and `record`, see Loop."""
        self._port = port
        self._settings = settings
        self._rules = rules
        self._tell = tell
        self._record = record
        self._solvers = {solver.typ: solver() for solver in port.solvers}
        self._loop: Loop
        self._keeper: Keeper
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
        injector = Injector()
        opened.callback(injector.close)
        sockets = Connections()
        opened.callback(sockets.close)
        translated = translates_sources(self._rules.tables)
        looked_up = sockets.known and not translated
        engine = Engine(list(self._solvers.values()), sockets if looked_up else None)
        capture = choice.open_capture(self._settings, self._port.selectors(), self._rules, opened)
        self._capture = capture
        self._loop = Loop(capture, engine, injector, self._tell, self._record, sources_translated=translated)
        opened.callback(self._loop.stop)
        self._loop.start()
        self._keeper = Keeper(capture)
        opened.callback(self._keeper.stop)
        self._keeper.start()

    def answer(self, challenge: ChallengeId, key_authorization: str) -> None:
        """Answer a challenge from now on. Raises ValueError for a bad key."""
        with self._loop.lock:
            self._solvers[challenge.typ].add(challenge.key, key_authorization)
            self._expect()

    def withdraw(self, challenge: ChallengeId, key_authorization: str) -> None:
        """Leave further requests for a challenge to the server; answers under way are completed."""
        with self._loop.lock:
            self._solvers[challenge.typ].remove(challenge.key, key_authorization)
            self._expect()

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
