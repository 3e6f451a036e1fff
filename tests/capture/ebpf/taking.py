"""Whether the program at ingress takes a stream that begins with some bytes."""

from __future__ import annotations

from certbot_standalone_nfq.capture.ebpf.code import NEXT
from certbot_standalone_nfq.capture.ebpf.layout import Kind
from certbot_standalone_nfq.wire.tcp import write
from lab.ebpf import Bench
from tests.engine.peer import Peer


def is_taken(loaded: Bench, payload: bytes, link_header: int = 14) -> bool:
    """Whether a payload is taken on a connection of its own, else it passes and is not watched."""
    sent = Peer(port=next(loaded.ports)).segment(payload)
    loaded.open_connection(sent)
    outcome = loaded.send(write(sent), link_header)
    assert not outcome.watched
    if not outcome.taken:
        assert (outcome.verdict, outcome.packet) == (NEXT, write(sent))
        return False
    assert [(taken.kind, taken.payload) for taken in outcome.taken] == [(Kind.TAKEN, write(sent))]
    return True
