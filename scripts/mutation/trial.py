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
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, settings

from scripts.mutation.mutants import Mutant

_MEMORY = 2 << 30
_FORK = multiprocessing.get_context("fork")
_QUICK = {"NFQ_SEEDS": "5", "NFQ_FUZZ": "100"}
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "no:threadexception")
_OPTIONS = ("-x", "-q", *_WITHOUT, "--assert=plain", "--hypothesis-seed=0", "-m", "not root")
_LOADED = ("scapy.layers.inet6", "scapy.utils", "hypothesis.strategies", "hypothesis.internal.conjecture.engine")


@dataclass(frozen=True)
class Task:
    """A mutant, or None for the package as it is, and the tests to run against it."""

    mutant: Mutant | None
    tests: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What came of a task: the exit status of pytest, or None if it did not end in time."""

    task: Task
    status: int | None
    seconds: float

    @property
    def survived(self) -> bool:
        """Whether all tests passed."""
        return self.status == pytest.ExitCode.OK


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


def try_all(tasks: Iterable[Task], processes: int, seconds: float) -> Iterator[Outcome]:
    """Do tasks, so many at once and each for so many seconds at most; yield what came of them as they end."""
    waiting = iter(tasks)
    running: dict[BaseProcess, tuple[Task, float]] = {}
    while True:
        for task in itertools.islice(waiting, processes - len(running)):
            process = _FORK.Process(target=_run, args=(task,), daemon=True)
            process.start()
            running[process] = task, time.monotonic()
        if not running:
            return
        yield from _ended(running, seconds)


def _ended(running: dict[BaseProcess, tuple[Task, float]], seconds: float) -> Iterator[Outcome]:
    """Wait until a process has ended or its time is up; take such processes out of those that are running."""
    first_end = min(begin for _, begin in running.values()) + seconds
    ends = [process.sentinel for process in running]
    multiprocessing.connection.wait(ends, max(0, first_end - time.monotonic()))
    for process, (task, begin) in list(running.items()):
        status, took = process.exitcode, time.monotonic() - begin
        if status is None and took < seconds:
            continue
        process.kill()
        process.join()
        del running[process]
        yield Outcome(task, status, took)


def _run(task: Task) -> None:
    """Run the tests, in a process of their own; its exit status is pytest's."""
    if task.mutant:
        sys.meta_path.insert(0, _Finder(task.mutant))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    status = 1
    with contextlib.suppress(BaseException):  # a mutant may do anything
        status = int(pytest.main([*_OPTIONS, *task.tests], plugins=[_Settings()]))
    os._exit(status)
