"""What something holds on to, seen from outside: all objects that can be reached from it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from certbot_standalone_nfq.engine.engine import Engine
from certbot_standalone_nfq.engine.receive_buffer import ReceiveBuffer


def streams_kept_by(engine: Engine) -> list[ReceiveBuffer]:
    """Return the streams of the connections it watches or has taken over: each has one."""
    return [each for each in _reachable(engine) if isinstance(each, ReceiveBuffer)]


def bytes_kept_by(keeper: object) -> list[bytes]:
    """Return all the bytes that it keeps."""
    return [each for each in _reachable(keeper) if isinstance(each, bytes)]


def _reachable(start: object) -> Iterator[Any]:
    seen, waiting = set(), [start]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, (type, FunctionType, ModuleType)):
            seen.add(id(each))
            yield each
            waiting += gc.get_referents(each)
