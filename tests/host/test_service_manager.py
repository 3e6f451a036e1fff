from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.host.service_manager import ServiceManager

pytestmark = pytest.mark.anywhere


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, ServiceManager]]:
    """The manager's socket, and what tells it."""
    path = str(tmp_path / "notify") if request.param == "path" else f"@nfq-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path.replace("@", "\0", 1))
        yield listening, ServiceManager({"NOTIFY_SOCKET": path})


def test_what_a_service_tells(manager: tuple[socket.socket, ServiceManager]) -> None:
    listening, service = manager
    service.ready("for example.com")
    service.reloading()
    service.ping()
    service.stopping()
    told = [listening.recv(4096).decode() for _ in range(4)]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told.pop(1))
    assert told == ["READY=1\nSTATUS=for example.com", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("path", ["", "relative", "/nowhere/at/all"])
def test_a_manager_that_is_not_there_is_no_error(path: str) -> None:
    ServiceManager({"NOTIFY_SOCKET": path}).ready("")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_pings_are_as_often_as_they_are_needed(environment: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager(environment).seconds_between_pings == seconds
