"""What all tests share: which of them need root, and that a thread's failure is a failure."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lab import hosts
from lab.hosts import Host
from tests.e2e.matrix import tables

# Programs inherit what is ignored, not what is handled. So those that tests send signals to heed them, even if these
# are ignored here: SIGHUP by nohup, SIGINT by a shell for its background jobs. Tests may raise SIGINT here as well.
for number in (signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("untimed", deadline=None)  # no test is one of time, on whatever machine
settings.load_profile("untimed")

_MAKE_NAMESPACES = {"lonely_host", "pair", "netns", "e2e"}
_without_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, most for network namespaces")


@pytest.hookimpl(tryfirst=True)  # before pytest looks which marks it was asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what makes namespaces as needing root, by fixtures or folders; without root, skip all that is so marked.

    Where one way to capture is asked for, leave out what is about others alone: it has no parameters then.
    """
    if os.environ.get("NFQ_CAPTURE"):
        items[:] = [item for item in items if not _lacks_parameters(item)]
    for item in items:
        if _MAKE_NAMESPACES & {*getattr(item, "fixturenames", ()), *item.path.parts}:
            item.add_marker("root")
        if item.get_closest_marker("root"):
            item.add_marker(_without_root)


def _lacks_parameters(item: pytest.Item) -> bool:
    return any("empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of servers and resolvers, if there are any."""
    for title, table in tables(itertools.chain(*terminalreporter.stats.values())):
        terminalreporter.section(title)
        terminalreporter.write_line(table)


@pytest.fixture
def lonely_host() -> Iterator[Host]:
    """A host without a network but its loopback."""
    with hosts.host("x") as host:
        yield host


@pytest.fixture
def pair() -> Iterator[tuple[Host, Host]]:
    """A client and a server with a cable between them."""
    with hosts.pair() as both:
        yield both


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is on PATH and among the sbin folders."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("certbot_standalone_nfq.host.command.SBIN", ())
    return folder
