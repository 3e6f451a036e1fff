from __future__ import annotations

import pytest

from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, candidates

pytestmark = pytest.mark.anywhere


def test_a_mask_of_two_bits_makes_two_marks() -> None:
    marks = Marks.from_mask(0x30000000)
    assert marks == Marks(connection=0x10000000, released=0x20000000)
    assert marks.both == 0x30000000


@pytest.mark.parametrize("mask", [0, 1, 7, 0xFFFFFFFF, 0x1_8000_0000, -1])
def test_a_mask_of_other_than_two_bits_of_32_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match="not two bits"):
        Marks.from_mask(mask)


def test_plans_at_one_time_share_neither_queue_nor_mark() -> None:
    plans = candidates(80)
    assert len({allocation.queue for allocation in plans}) == len(plans) >= 4
    for allocation in plans:
        assert not any(allocation.marks.both & other.marks.both for other in plans if other is not allocation)


def test_a_queue_and_a_mark_that_the_user_chose_are_the_only_ones_tried() -> None:
    (allocation,) = candidates(8080, 7, Marks(1, 2))
    assert allocation.queue == 7
    assert [allocation] == [Allocation(8080, allocation.run_id, Marks(1, 2))]
    assert {allocation.queue for allocation in candidates(80, queue=7)} == {7}
    assert {allocation.marks for allocation in candidates(80, marks=Marks(1, 2))} == {Marks(1, 2)}
