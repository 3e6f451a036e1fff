"""What a stream is that begins with some bytes: all types of challenges asked in turn."""

from __future__ import annotations

from collections.abc import Iterable

from certbot_standalone_nfq.engine.protocols import UNDECIDED, Recognition, StreamSolver
from certbot_standalone_nfq.wire.proxy_protocol import without_header


def recognise(solvers: Iterable[StreamSolver], received: bytes) -> Recognition:
    """Return what a stream is that begins with these bytes, or with what follows a load balancer's header."""
    if not received:
        return None
    start = without_header(received)
    recognition: Recognition = None
    for solver in solvers:
        found = solver.recognise(start)
        if found is not None and found is not UNDECIDED:
            return found
        recognition = recognition or found
    return recognition
