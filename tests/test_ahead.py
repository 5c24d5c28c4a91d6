"""Stale synchronous parallel: who is too far ahead waits, and nothing is rejected."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.worlds import (
    EXPONENTIAL,
    failing,
    lognormal,
    memoryless,
    moments_of,
    run,
    seconds,
    stack,
    world_knobs,
)

from jaxwan.world.plan import WorldPlan

BOUNDS = (0, 1, 3)
ENDS, RUNS = 1500, 40


def play(rows, ends, width, slots=1, seeds=None):
    plan = WorldPlan("events", "ideal", width, slots, -(-2 * ends // slots), blocking=True)
    seeds = np.arange(len(rows)) if seeds is None else seeds
    return run(plan, stack(rows), seeds)


def row(width, ends, bound, present=None, **changes):
    return world_knobs(width, present, max_staleness=bound, cycle_ends=ends, **changes)


@pytest.fixture(scope="module")
def two():
    """Two workers with exponential computation on a free network, for each bound."""
    rows = [
        row(2, ENDS, bound, compute_noise=EXPONENTIAL) for bound in BOUNDS for _ in range(RUNS)
    ]
    return play(rows, ENDS, 2)


@pytest.mark.parametrize("place", range(len(BOUNDS)))
def test_two_workers_work_at_the_rate_theory_says(two, place):
    _, outcome = two
    own = slice(place * RUNS, (place + 1) * RUNS)
    assert (outcome.totals.accepted[own] == ENDS).all()
    assert (outcome.totals.rejected[own] == 0).all()
    rate = ENDS / 2 / seconds(outcome.now)[own]
    s = BOUNDS[place]
    error = rate.std(ddof=1) / np.sqrt(RUNS)
    assert abs(rate.mean() - 2 * (s + 1) / (2 * (s + 1) + 1)) < 3 * error


def counts_over_time(moments, width):
    """Return the cycles that each worker has ended after each tick `[tick, worker]`."""
    tick = moments.tick
    ended = (tick.weight[:, :, None] > 0) & (tick.worker[:, :, None] == np.arange(width))
    return np.cumsum(ended.sum(axis=1), axis=0)


def test_nobody_runs_further_ahead_than_the_bound(two):
    moments, _ = two
    for place, bound in enumerate(BOUNDS):
        counts = counts_over_time(moments_of(moments, place * RUNS), 2)
        lead = np.abs(counts[:, 0] - counts[:, 1])
        assert lead.max() == bound + 1


@pytest.fixture(scope="module")
def many():
    """Five workers, one slow; steady, with outages, and with one that leaves for good."""
    speed = np.array([1, 1, 1, 1, 0.25], np.float32)
    gone = ((20.0, 0.0, 0.0), (np.inf, 0.0, 0.0))
    rows = [
        row(5, 200, 2, speed=speed, compute_noise=lognormal(0.3)),
        row(5, 200, 2, speed=speed, outages=failing(transient=memoryless(12.0, 3.0),
                                                    churn=memoryless(40.0, 8.0))),
        row(5, 200, 2, speed=speed, outages=failing(crash=gone)),
        row(5, 200, 10**6, speed=speed, compute_noise=lognormal(0.3)),
        row(5, 200, 0, compute_noise=(1.0, 0.0, 0.0), online=np.arange(5) < 4,
            outages=failing(churn=((np.inf, 0.0, 0.0), (7.5, 0.0, 0.0)))),
    ]  # fmt: skip
    return play(rows, 200, 5, seeds=np.zeros(len(rows), int))


def test_the_slowest_sets_the_pace(many):
    moments, outcome = many
    counts = counts_over_time(moments_of(moments, 0), 5)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() == 3
    free = counts_over_time(moments_of(moments, 3), 5)
    assert (free.max(axis=1) - free.min(axis=1)).max() > 20
    assert seconds(outcome.now)[0] > 2 * seconds(outcome.now)[3]


def test_every_cycle_ends_once_and_the_budget_is_used(many):
    moments, outcome = many
    for place in (0, 1, 3, 4):
        tick, total = moments_of(moments, place).tick, [t[place] for t in (
            outcome.totals.accepted, outcome.totals.rejected, outcome.totals.lost)]  # fmt: skip
        assert outcome.status[place] == 0
        assert sum(total) == 200
        assert total[1] == 0
        for worker in range(5):
            own = np.sort(tick.cycle[(tick.worker == worker) & (tick.weight > 0)])
            assert len(np.unique(own)) == len(own)
    assert outcome.totals.lost[1] > 0


def test_everybody_gone_for_good_ends_the_run(many):
    _, outcome = many
    assert outcome.status[2] == 1
    assert outcome.totals.accepted[2] < 200
    assert np.isfinite(seconds(outcome.now)[2])


def test_who_joins_late_holds_nobody_up_and_stands_level(many):
    moments, _ = many
    own = moments_of(moments, 4)
    when = seconds(own.now)
    counts = counts_over_time(own, 5)
    before = when < 7.4
    assert counts[before][-1, :4].tolist() == [7, 7, 7, 7]
    assert counts[before][-1, 4] == 0
    late = counts[when < 20.4][-1]
    assert late[:4].tolist() == [20] * 4 or late[:4].tolist() == [19] * 4
    assert late[4] >= 11
    assert jnp.isfinite(when).all()
