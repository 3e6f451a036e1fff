"""What strangers cause to be logged has an end, which is told."""

from __future__ import annotations

import logging
import socket

import pytest

from certbot_standalone_nfq.session import datagrams
from certbot_standalone_nfq.session.limited_log import LINES, LimitedLog
from lab.http import reset_on_close
from lab.processes import wait_until
from tests.session.test_acceptor import accepting

pytestmark = pytest.mark.anywhere


def test_the_last_line_says_that_it_is_the_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "certbot_standalone_nfq")
    log = LimitedLog(logging.getLogger("certbot_standalone_nfq.test"))
    for number in range(LINES + 5):
        log.debug("No. %d", number)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == LINES
    assert said[0] == "No. 0"
    assert said[-1] == f"No. {LINES - 1} (further ones are not logged)"


def ended_early(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [said for said in map(logging.LogRecord.getMessage, caplog.records) if "ended early" in said]


def test_connections_that_are_reset_are_logged_no_more_than_that(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "certbot_standalone_nfq")
    monkeypatch.setattr("certbot_standalone_nfq.session.limited_log.LINES", 3)
    with accepting() as address:
        for _ in range(10):
            with socket.create_connection(address) as client:
                client.sendall(b"hel")
                reset_on_close(client)
        wait_until(lambda: len(ended_early(caplog)) >= 3, "resets are logged")
        with socket.create_connection(address) as client:
            client.sendall(b"other")
            assert client.recv(100)
    assert len(ended_early(caplog)) == 3


def test_datagrams_that_cannot_be_answered_are_logged_likewise(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "certbot_standalone_nfq")
    monkeypatch.setattr("certbot_standalone_nfq.session.limited_log.LINES", 3)
    log = LimitedLog(logging.getLogger("certbot_standalone_nfq.test"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as client:
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        for _ in range(10):
            client.sendto(b"question", ours.getsockname())
        datagrams.answer(ours, lambda _: bytes(1 << 17), log)  # longer than any datagram
    assert len(caplog.records) == 3
