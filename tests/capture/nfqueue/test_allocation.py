from __future__ import annotations

import pytest

from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, candidates
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver

SELECTORS = Http01Solver.selectors(80)

pytestmark = pytest.mark.anywhere


def test_a_mask_of_two_bits_makes_two_marks() -> None:
    marks = Marks.from_mask(0x30000000)
    assert marks == Marks(connection=0x10000000, released=0x20000000)
    assert marks.both == 0x30000000


@pytest.mark.parametrize("mask", [0, 1, 7, 0xFFFFFFFF, 0x1_8000_0000, -1])
def test_a_mask_of_other_than_two_bits_of_32_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match="not two bits"):
        Marks.from_mask(mask)


def test_allocations_at_one_time_share_neither_queue_nor_mark() -> None:
    allocations = candidates(SELECTORS)
    assert len({allocation.queue for allocation in allocations}) == len(allocations) >= 4
    for allocation in allocations:
        assert not any(allocation.marks.both & other.marks.both for other in allocations if other is not allocation)


def test_a_queue_and_a_mark_that_the_user_chose_are_the_only_ones_tried() -> None:
    (allocation,) = candidates(SELECTORS, 7, Marks(1, 2))
    assert allocation.queue == 7
    assert [allocation] == [Allocation(SELECTORS, allocation.run_id, Marks(1, 2))]
    assert {allocation.queue for allocation in candidates(SELECTORS, queue=7)} == {7}
    assert {allocation.marks for allocation in candidates(SELECTORS, marks=Marks(1, 2))} == {Marks(1, 2)}
