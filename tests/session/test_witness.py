from __future__ import annotations

import logging

import pytest

from certbot_standalone_nfq.engine.protocols import Declined
from certbot_standalone_nfq.engine.verdicts import Answered
from certbot_standalone_nfq.session.witness import MAX_LOGGED, Witness
from certbot_standalone_nfq.wire.tcp import Connection
from lab.interceptor import HTTP01_PORT, challenge

pytestmark = pytest.mark.anywhere


def test_the_log_tells_of_some_answers_one_by_one_and_sums_up_any_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "certbot_standalone_nfq")
    witness = Witness(HTTP01_PORT, observe=False)
    witness.start()
    for token in ("one", "other"):
        witness.expect(challenge(token), f"{token}.example")
        for port in range(1, 2000):
            witness.tell(Answered(challenge(token), Connection("192.0.2.1", port, "192.0.2.80", 80)))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 * MAX_LOGGED
    witness.stop()
    summaries = [record.getMessage() for record in caplog.records][len(told) :]
    assert [line.partition(";")[0] for line in summaries] == [
        "one.example: challenge requests answered: 1999",
        "other.example: challenge requests answered: 1999",
    ]


def test_the_log_says_once_why_challenges_are_left_to_the_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "certbot_standalone_nfq")
    witness = Witness(HTTP01_PORT, observe=False)
    for _ in range(3):
        witness.tell(Declined("too many of them"))
    assert [record.getMessage() for record in caplog.records] == [
        "There are too many of them, so further ones go to the server."
    ]
    assert witness.remarks() == ["There were too many of them, so further ones went to the server."]
