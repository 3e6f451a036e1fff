"""What something holds on to, seen from outside: all objects that can be reached from it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def kept_by(keeper: object, kind: type[Kind]) -> list[Kind]:
    """Return the objects of a kind that can be reached from one."""
    return [each for each in _reachable(keeper) if isinstance(each, kind)]


def _reachable(start: object) -> Iterator[Any]:
    seen, waiting = set(), [start]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, (type, FunctionType, ModuleType)):
            seen.add(id(each))
            yield each
            waiting += gc.get_referents(each)
