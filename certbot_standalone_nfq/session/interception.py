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
    """Answers challenges on one port, from its making until `stop`."""

    def __init__(
        self,
        port: ChallengePort,
        settings: Settings,
        rules: Snapshot,
        tell: Callable[[Event], object],
        record: Callable[[bytes], object] | None = None,
    ) -> None:
        """Open everything, given the rules of other programs. For `tell` and `record`, see Loop.

        Raises one of the package's errors, with nothing left behind.
        """
        self._tell = tell
        self._solvers = {solver.typ: solver() for solver in port.solvers}
        with contextlib.ExitStack() as opened:
            injector = Injector()
            opened.callback(injector.close)
            sockets = Connections()
            opened.callback(sockets.close)
            translated = translates_sources(rules.tables)
            looked_up = sockets.known and not translated
            engine = Engine(list(self._solvers.values()), sockets if looked_up else None)
            capture = choice.open_capture(settings, port.selectors(), rules)
            opened.callback(capture.close)
            self._capture = capture
            self._loop = Loop(capture, engine, injector, tell, record, sources_translated=translated)
            opened.callback(self._loop.stop)
            self._loop.start()
            self._keeper = Keeper(capture)
            opened.callback(self._keeper.stop)
            self._keeper.start()
            self._opened = opened.pop_all()

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
