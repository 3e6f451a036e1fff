"""The laboratory that most of these tests need: two hosts, nginx on one of them, and a pending challenge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import hosts
from tests.lab.hosts import Host
from tests.lab.nginx import Nginx, nginx


@dataclass
class Lab:
    """A client, a server, and nginx on the server."""

    client: Host
    server: Host
    nginx: Nginx
    folder: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with hosts.pair() as (client, server), nginx(server, folder / "nginx") as running:
        yield Lab(client, server, running, folder)
