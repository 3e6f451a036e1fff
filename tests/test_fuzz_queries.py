"""The campaign of damaged queries, as far as a test has time for it: all of it is `scripts/fuzz-queries`."""

from __future__ import annotations

import random

from scripts.fuzz_queries import campaign


def test_no_damaged_query_raises_or_takes_long_and_each_answer_is_one() -> None:
    seed = random.randrange(1 << 32)
    counted = campaign(2000, seed)
    assert counted["queries"] == 2000
    assert counted["answered"] > 200
    assert (counted["wrong"], counted["slow"]) == (0, 0), (seed, counted)
