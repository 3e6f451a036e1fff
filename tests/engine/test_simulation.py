"""Thousands of seeds of bad networks. NFQ_SEEDS sets how many for each condition, to look for rarer failures."""

from __future__ import annotations

import os

import pytest

from tests.engine.peer import TOKEN, request
from tests.engine.simulation import Conditions, simulate

SEEDS = int(os.environ.get("NFQ_SEEDS", "400"))
LINE = len("GET /.well-known/acme-challenge/")
DECIDED = LINE + 11
HEADERS = LINE + len(TOKEN) + len(" HTTP/1.1\r\n")

BAD_NETWORKS = {
    "nothing wrong": Conditions(),
    "loss": Conditions(loss=0.15),
    "reordering": Conditions(jitter=0.1),
    "doubling": Conditions(doubling=0.5, jitter=0.05),
    "damage": Conditions(damage=0.15),
    "all at once": Conditions(loss=0.15, jitter=0.05, doubling=0.1, damage=0.05),
    "all at once, no timestamps": Conditions(loss=0.15, jitter=0.05, doubling=0.1, damage=0.05, timestamps=False),
    "half-close": Conditions(loss=0.15, jitter=0.05, half_close=True),
    "late copies of the SYN": Conditions(loss=0.15, jitter=0.1, late_syns=3),
    "late copies of the SYN, and pieces": Conditions(jitter=0.1, late_syns=3, cuts=(DECIDED,)),
    "a slow path": Conditions(loss=0.15, delay=0.4, jitter=0.1),
    "pieces, first one decisive": Conditions(loss=0.15, jitter=0.05, doubling=0.1, cuts=(DECIDED, HEADERS)),
    "pieces within the headers": Conditions(loss=0.15, jitter=0.05, cuts=(HEADERS, HEADERS + 5, HEADERS + 9)),
}
"""Where every validation succeeds."""


@pytest.mark.parametrize("conditions", BAD_NETWORKS.values(), ids=BAD_NETWORKS)
def test_every_validation_succeeds_and_the_server_never_sees_it(conditions: Conditions) -> None:
    for seed in range(SEEDS):
        outcome = simulate(conditions, seed)
        assert outcome.is_answered, seed
        assert outcome.is_clean, seed
        assert not outcome.host.server.saw_request, seed
        assert outcome.is_forgotten, seed


@pytest.mark.parametrize("cut", range(1, len(request())))
def test_a_request_cut_anywhere_is_answered_where_nothing_overtakes(cut: int) -> None:
    for cuts in ((cut,), (cut, cut + 1) if cut + 1 < len(request()) else (cut - 1, cut)):
        outcome = simulate(Conditions(cuts=cuts), seed=cut)
        assert outcome.is_answered
        assert not outcome.host.server.saw_request


@pytest.mark.parametrize("delay", [0.02, 0.4])
def test_a_request_in_pieces_is_answered_as_soon_as_a_whole_one(delay: float) -> None:
    ended = {simulate(Conditions(delay=delay, cuts=cuts), 0).client.ended_at for cuts in ((), (DECIDED,), (9, HEADERS))}
    assert ended == {2 * delay}


def test_a_request_octet_by_octet_is_answered() -> None:
    outcome = simulate(Conditions(cuts=tuple(range(1, len(request())))), seed=0)
    assert outcome.is_answered
    assert not outcome.host.server.saw_request


def test_nearly_every_validation_succeeds_where_almost_a_third_is_lost() -> None:
    outcomes = [simulate(Conditions(loss=0.3, jitter=0.05, doubling=0.05), seed) for seed in range(SEEDS)]
    assert sum(outcome.is_answered for outcome in outcomes) >= 0.98 * SEEDS
    assert sum(outcome.is_clean for outcome in outcomes) >= 0.98 * SEEDS
    assert all(outcome.is_forgotten for outcome in outcomes)
    assert not any(outcome.host.server.saw_request for outcome in outcomes)


@pytest.mark.parametrize(
    ("conditions", "seed"),
    [
        # The client's close was lost for longer than the endpoint lingered: ten seconds, at first.
        (Conditions(loss=0.15, jitter=0.02, doubling=0.05, damage=0.02), 53),
        (Conditions(loss=0.15, jitter=0.02, doubling=0.05, damage=0.02), 56),
        (Conditions(loss=0.15, jitter=0.05, timestamps=False), 349),
        (Conditions(loss=0.15, half_close=True), 89),
        # So it was for a minute; each FIN that comes again begins the time anew since.
        (Conditions(damage=0.15), 1841),
        (Conditions(loss=0.15, jitter=0.05, half_close=True), 4843),
        # A second piece overtook a first one that ended within the token, which was not decisive at first.
        (Conditions(loss=0.15, jitter=0.02, cuts=(60,)), 4),
        (Conditions(loss=0.15, jitter=0.02, cuts=(60,)), 5),
    ],
)
def test_what_failed_once_does_not_again(conditions: Conditions, seed: int) -> None:
    outcome = simulate(conditions, seed)
    assert outcome.is_answered
    assert outcome.is_clean
    assert not outcome.host.server.saw_request
