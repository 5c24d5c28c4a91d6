"""A world beside its twin: tick by tick, then the books."""

import numpy as np
import pytest
from helpers.worlds import one, seconds


def slots_of(tick, index):
    """List the slots of one tick in which something ended."""
    held = tick.fetched[index]
    return [
        (int(tick.worker[index, s]), int(tick.cycle[index, s]), int(tick.base_age[index, s]),
         bool(tick.weight[index, s]), bool(tick.fresh[index, s]))
        for s in np.flatnonzero(held)
    ]  # fmt: skip


def assert_told(plan, mine, outcome, told):
    """Assert that one run's moments and outcome are what the twin told."""
    record, books, version, status = told
    for index in range(plan.ticks):
        want, now, then = record[index] if index < len(record) else ([], None, version)
        got = slots_of(mine.tick, index)
        if plan.protocol == "barrier":
            got, want = [slot[:4] for slot in got], [slot[:4] for slot in want]
        assert got == want, f"tick {index}"
        assert mine.version[index] == then or index >= len(record)
        if now is not None:
            assert seconds(one(mine.now, index)) == pytest.approx(now / 2**20, abs=2e-3, rel=1e-6)
    assert (outcome.version, outcome.status) == (version, status)
    for name in ("accepted", "rejected", "lost", "staleness_sum", "staleness_max",
                 "dense_fetches", "missed_updates"):  # fmt: skip
        assert getattr(outcome.totals, name) == books.counts[name], name
    for name in ("busy", "transfer", "latency", "on_wire_up", "on_wire_down"):
        total = seconds(getattr(outcome.totals, name))
        assert total == pytest.approx(books.sums[name], rel=1e-4, abs=1e-3), name
    np.testing.assert_array_equal(outcome.totals.contributions, books.contributions)
    np.testing.assert_array_equal(outcome.totals.arrivals, books.arrivals)
