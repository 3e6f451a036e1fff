"""Run the tests against a mutant, each in a process that is forked when all that takes time to load is loaded."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, settings

from scripts.mutation.mutants import Mutant

_MEMORY = 2 << 30
_PATIENCE = 900
"""Seconds for a process that waits for something, instead of working in vain."""
_FORK = multiprocessing.get_context("fork")
_QUICK = {"NFQ_SEEDS": "5", "NFQ_FUZZ": "100"}
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "no:threadexception")
_OPTIONS = ("-x", "-q", *_WITHOUT, "--assert=plain", "--hypothesis-seed=0", "-m", "not root")
_LOADED = ("scapy.layers.inet6", "scapy.utils", "hypothesis.strategies", "hypothesis.internal.conjecture.engine")


@dataclass(frozen=True)
class Task:
    """A mutant, or None for the package as it is, and the tests to run against it, in rounds."""

    mutant: Mutant | None
    rounds: Sequence[Sequence[str]]
    """The tests of each round: those of the first are the most likely to fail."""


class _Settings:
    """Has hypothesis look for a failure only, not for the smallest, and remember none."""

    @staticmethod
    def pytest_configure() -> None:
        settings.register_profile(
            "mutation",
            settings.default,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=tuple(HealthCheck),  # a busy machine is no failure
        )
        settings.load_profile("mutation")


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, mutant.path)
        self._source = mutant.source

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self.path, "exec"), module.__dict__)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a mutant in place of the module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = ".".join(Path(mutant.path).with_suffix("").parts)

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._mutant.path, loader=_Loader(name, self._mutant))


def load() -> None:
    """Load what the tests need beside the package itself, once for all the processes to be forked."""
    os.environ.update(_QUICK)
    for name in _LOADED:
        importlib.import_module(name)


def seconds_for(tests: Sequence[str]) -> float:
    """Return the processor's time that tests take with no change made. Raises SystemExit if one fails."""
    before = _seconds_of_children()
    if not list(survivors([Task(None, [tests])], 1, _PATIENCE)):
        sys.exit("The tests fail without any change: run them by pytest.")
    return _seconds_of_children() - before


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def survivors(tasks: Iterable[Task], processes: int, seconds: float) -> Iterator[Task]:
    """Do tasks, so many at once; yield those whose tests all pass, within so many seconds of the processor."""
    waiting = iter(tasks)
    running: dict[ForkProcess, Task] = {}
    while True:
        for task in itertools.islice(waiting, processes - len(running)):
            process = _FORK.Process(target=_run, args=(task, int(seconds)), daemon=True)
            process.start()
            running[process] = task
        if not running:
            return
        multiprocessing.connection.wait([process.sentinel for process in running])
        ended = [process for process in running if process.exitcode is not None]
        for process in ended:
            task = running.pop(process)
            if process.exitcode == pytest.ExitCode.OK:
                yield task


def _run(task: Task, seconds: int) -> None:
    """Run the tests, in a process of their own; its exit status is pytest's."""
    if task.mutant:
        sys.meta_path.insert(0, _Finder(task.mutant))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.alarm(_PATIENCE)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    status = 1
    with contextlib.suppress(BaseException):  # a mutant may do anything
        status = next(filter(None, map(_status, task.rounds)), pytest.ExitCode.OK)
    os._exit(status)


def _status(tests: Sequence[str]) -> int:
    return int(pytest.main([*_OPTIONS, *tests], plugins=[_Settings()]))
