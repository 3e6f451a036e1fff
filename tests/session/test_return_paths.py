"""Answers go where conntrack expects them, and to the client wherever it does not say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from certbot_standalone_nfq.engine.engine import MAX_TAKEN_OVER
from certbot_standalone_nfq.host.conntrack import Tracked
from certbot_standalone_nfq.session.return_paths import Addressed, ReturnPaths
from certbot_standalone_nfq.wire.flags import Flags
from certbot_standalone_nfq.wire.tcp import Connection, Segment, Timestamps

CLIENT = Connection("198.51.100.1", 40000, "198.51.101.2", 8080)
ANSWER = Segment("198.51.101.2", 8080, "198.51.100.1", 40000, 1, 2, Flags.ACK, 100, b"answer")


def sent_to(paths: ReturnPaths) -> tuple[str, int]:
    segment = paths.address(ANSWER).segment
    assert (segment.source, segment.source_port, segment.payload) == ("198.51.101.2", 8080, b"answer")
    return segment.destination, segment.destination_port


def fails(_: Connection, __: int) -> Tracked | None:
    raise OSError(93, "Protocol not supported")


@pytest.mark.parametrize("find", [lambda *_: None, lambda *_: Tracked(*CLIENT[:2]), fails])
def test_without_a_translation_the_client_is_answered_itself(find: Callable[[Connection, int], Tracked | None]) -> None:
    paths = ReturnPaths(find)
    paths.learn(CLIENT)
    assert paths.address(ANSWER) == Addressed(ANSWER)


def test_a_translated_client_is_answered_at_the_address_that_the_server_saw() -> None:
    paths = ReturnPaths(lambda *_: Tracked("198.51.101.1", 999))
    assert paths.address(ANSWER) == Addressed(ANSWER)
    paths.learn(CLIENT)
    assert sent_to(paths) == ("198.51.101.1", 999)


def test_what_conntrack_changes_in_the_servers_numbers_is_undone_in_advance() -> None:
    """As behind SYNPROXY: it adds to sequence numbers, and takes away from timestamps. Both wrap around."""
    paths = ReturnPaths(lambda *_: Tracked(*CLIENT[:2], sequence_offset=3, timestamp_offset=0xFFFFFFFF))
    paths.learn(CLIENT)
    answer = dataclasses.replace(ANSWER, timestamps=Timestamps(7, 8))
    sent = dataclasses.replace(answer, seq=0xFFFFFFFE, timestamps=Timestamps(6, 8))
    assert paths.address(answer) == Addressed(sent)
    assert paths.address(ANSWER).segment.timestamps is None


def test_a_later_connection_between_the_same_ports_has_a_path_of_its_own() -> None:
    found = [None, Tracked("198.51.101.1", 999)]
    paths = ReturnPaths(lambda *_: found.pop())
    paths.learn(CLIENT)
    assert sent_to(paths) == ("198.51.101.1", 999)
    paths.learn(CLIENT)
    assert sent_to(paths) == CLIENT[:2]


def test_as_many_paths_are_kept_as_connections() -> None:
    paths = ReturnPaths(lambda *_: Tracked("198.51.101.1", 999))
    paths.learn(CLIENT)
    for port in range(1, MAX_TAKEN_OVER):
        paths.learn(CLIENT._replace(peer_port=port))
    assert sent_to(paths) == ("198.51.101.1", 999)
    paths.learn(CLIENT._replace(peer_port=MAX_TAKEN_OVER))
    assert sent_to(paths) == CLIENT[:2]
