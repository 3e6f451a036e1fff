from __future__ import annotations

from certbot_standalone_nfq.core.actions import Answered
from certbot_standalone_nfq.core.segment import Connection
from certbot_standalone_nfq.evidence import Evidence, hint


def answered(token: str, peer: str) -> Answered:
    return Answered(token, Connection(peer, 4000, "192.0.2.80", 80))


def test_requests_are_counted_by_token_and_address() -> None:
    evidence = Evidence()
    for token, peer in (("a", "192.0.2.1"), ("a", "192.0.2.1"), ("a", "2001:db8::1"), ("b", "192.0.2.1")):
        evidence.record(answered(token, peer))
    assert evidence.requests("a") == {"192.0.2.1": 2, "2001:db8::1": 1}
    assert evidence.requests("c") == {}


def test_nothing_arrived_is_said_of_this_machine_only() -> None:
    assert hint("example.com", {}, 80) == (
        "example.com: no challenge request arrived at TCP port 80 of this machine. Check that the name's A and AAAA "
        "records lead here and that no firewall blocks the port on the way."
    )


def test_what_arrived_is_said_with_count_and_addresses() -> None:
    assert hint("example.com", {"192.0.2.2": 1}, 80).startswith(
        "example.com: 1 challenge request arrived at this machine and was answered (from 192.0.2.2)"
    )
    assert "3 challenge requests arrived at this machine and were answered (from 192.0.2.1, 192.0.2.2)" in hint(
        "example.com", {"192.0.2.2": 1, "192.0.2.1": 2}, 80
    )
