"""The laboratory that most of these tests need: two hosts, nginx on one of them, and a pending challenge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import hosts
from lab.hosts import Host
from lab.nginx import Nginx, nginx

_DELAY = ("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "1ms")
collect_ignore = [] if hosts.kernel_can(*_DELAY) else ["test_cables.py"]


@dataclass
class Lab:
    """A client, a server, and nginx on the server."""

    client: Host
    server: Host
    nginx: Nginx
    folder: Path


@contextlib.contextmanager
def _laboratory(folder: Path) -> Iterator[Lab]:
    with hosts.pair() as (client, server), nginx(server, folder / "nginx") as running:
        yield Lab(client, server, running, folder)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A laboratory that a module's tests share."""
    with _laboratory(tmp_path_factory.mktemp("lab")) as made:
        hosts.retransmit_late(made.client)
        yield made


@pytest.fixture
def fresh_lab(tmp_path: Path) -> Iterator[Lab]:
    """A laboratory whose firewall remembers no connection, which an ephemeral port could be used for again."""
    with _laboratory(tmp_path) as made:
        yield made
