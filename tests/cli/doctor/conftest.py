from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.dns import Dns, dns
from lab.hosts import Host, track_connections
from lab.nginx import nginx


@pytest.fixture
def server(pair: tuple[Host, Host], tmp_path: Path) -> Iterator[Host]:
    """A host whose nginx has port 80, on both families, and that tracks connections."""
    track_connections(pair[1])
    with nginx(pair[1], tmp_path / "nginx"):
        yield pair[1]


@pytest.fixture
def named(pair: tuple[Host, Host]) -> Iterator[Dns]:
    """The DNS that the server asks."""
    with dns(pair[1]) as running:
        yield running


@pytest.fixture
def wrapped(tmp_path: Path) -> Callable[[str, str], str]:
    """Put a shell script in place of a program; return the PATH on which it is found."""

    def wrap(program: str, script: str) -> str:
        folder = tmp_path / "wrapped"
        folder.mkdir(exist_ok=True)
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
        return f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"

    return wrap
