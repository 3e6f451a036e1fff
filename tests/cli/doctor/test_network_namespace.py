from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest

from certbot_standalone_nfq.cli.doctor.network_namespace import Failed, PrivateRun

pytestmark = pytest.mark.root


def namespace() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def interfaces_and_namespace() -> tuple[list[str], str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 80))
        listener.listen()
        with socket.create_connection(("127.0.0.1", 80), timeout=5):
            return [name for _, name in socket.if_nameindex()], namespace()


def test_a_function_has_a_loopback_interface_that_works_and_a_namespace_that_is_not_ours() -> None:
    here = namespace()
    interfaces, there = PrivateRun(interfaces_and_namespace).result(10)
    assert "lo" in interfaces
    assert "eth0" not in interfaces
    assert there != here
    assert namespace() == here


def test_an_exception_is_told_in_its_words() -> None:
    with pytest.raises(Failed, match="invalid literal"):
        PrivateRun(int, "no number").result(10)


def test_a_process_that_ends_early_is_a_failure() -> None:
    with pytest.raises(Failed, match="ended early"):
        PrivateRun(os._exit, 3).result(10)


def test_a_function_that_does_not_end_is_ended() -> None:
    run = PrivateRun(signal.pause)
    with pytest.raises(TimeoutError):
        run.result(0.1)
    assert not multiprocessing.active_children()
