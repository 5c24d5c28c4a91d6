"""Every cycle of every worker ends once: accepted, rejected or lost; none vanishes, none twice."""

import jax
import numpy as np
import pytest
from helpers.worlds import compiled_run, moments_of, one

from jaxwan.experiment.catalog import challenges
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment

SEEDS, STEPS = 3, 40
CUT = {"partition": {"mtbf_steps": 25, "law": "deterministic", "duration_steps": 20}}
STRATEGIES = ("sync", {"kind": "async"}, {"kind": "async", "max_staleness": 2}, "diloco")


def experiments():
    """Return every challenge under every strategy, as it is and with half the fleet cut off."""
    return [
        Experiment(scenario="simple", challenge=challenge, strategy=strategy, steps=STEPS,
                   aggregator="mean", compressor="none", failures=failures, timing_only=True)
        for challenge in challenges() for strategy in STRATEGIES for failures in ({}, CUT)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def books():
    """Run them all: `(plan, knobs of one run, its ticks, its outcome)` per run."""
    found = []
    for batch in group([resolve(experiment) for experiment in experiments()]):
        rows = np.repeat(np.arange(len(batch.members)), SEEDS)
        knobs = jax.tree.map(lambda leaf, rows=rows: leaf[rows], batch.world_knobs)
        seeds = np.tile(np.arange(SEEDS, dtype=np.uint32), len(batch.members))
        moments, outcome = jax.tree.map(np.asarray, compiled_run(batch.world, knobs, seeds))
        found += [
            (batch.world, one(knobs, run), moments_of(moments, run), one(outcome, run))
            for run in range(len(rows))
        ]
    return found


def test_every_challenge_and_strategy_is_there(books):
    assert len(books) == len(experiments()) * SEEDS
    assert sum(outcome.totals.rejected > 0 for *_, outcome in books) > 20
    assert sum(outcome.totals.lost > 0 for *_, outcome in books) > 20


def test_each_cycle_ends_once_and_is_accepted_rejected_or_lost(books):
    for plan, knobs, moments, outcome in books:
        tick, total = moments.tick, outcome.totals
        ended = tick.fetched & (tick.cycle >= 0)
        for worker in range(plan.workers):
            own = np.sort(tick.cycle[ended & (tick.worker == worker)])
            assert (own == np.arange(len(own))).all()
            assert total.contributions[worker] == (tick.weight[tick.worker == worker] > 0).sum()
        assert ended.sum() == total.accepted + total.rejected + total.lost
        assert (tick.weight > 0).sum() == total.accepted
        assert not (tick.weight[~ended] > 0).any()
        assert total.arrivals.sum() == total.accepted + total.rejected
        if plan.protocol == "events":
            assert ended.sum() == knobs.cycle_ends
            assert (tick.base_age[tick.weight > 0] <= knobs.max_staleness).all()
