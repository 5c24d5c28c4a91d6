"""A network partition: the coordinator's side goes on, the others work and arrive late."""

import jax
import numpy as np
import pytest
from helpers.worlds import compiled_run, failing, world_knobs

from jaxwan.api import simulate
from jaxwan.core import clock
from jaxwan.experiment.spec import Experiment
from jaxwan.world.plan import WorldPlan

ONCE = ((10.0, 0.0, 0.0), (20.0, 0.0, 0.0))  # from 10 s to 30 s, then from 40 s


def world(protocol, ends, **changes):
    """Run four workers of 1 s a step without noise, the last two cut off from 10 s to 30 s."""
    knobs = world_knobs(
        4, delay_s=np.full(4, 0.01, np.float32), compute_noise=(1.0, 0.0, 0.0),
        outages=failing(partition=ONCE), cut=np.arange(4) >= 2,
        cycle_ends=ends, ticks=ends, **changes,
    )  # fmt: skip
    slots = 4 if protocol == "barrier" else 1
    plan = WorldPlan(protocol, "ideal", 4, slots, ends)
    batch = jax.tree.map(lambda x: np.asarray(x)[None], knobs)
    moments, outcome = compiled_run(plan, batch, np.zeros(1, np.uint32))
    drop = jax.tree.map(lambda x: np.asarray(x)[:, 0], moments)
    return drop, jax.tree.map(lambda x: np.asarray(x)[0], outcome)


def test_cut_workers_keep_working_and_arrive_stale():
    moments, outcome = world("events", 100)
    when = np.asarray(clock.to_seconds(moments.now))
    worker, age = moments.tick.worker[:, 0], moments.tick.base_age[:, 0]
    weight = moments.tick.weight[:, 0]
    during = (when > 11.5) & (when < 29.5)
    assert set(worker[during]) == {0, 1}
    assert during.sum() in (34, 35, 36)  # two workers, a cycle in 1.02 s, undisturbed
    late = (worker >= 2) & (when >= 29.5) & (when < 30.5)
    assert late.sum() == 2
    assert (age[late] > 30).all()
    assert (weight[late] == 1).all()
    assert outcome.totals.lost == 0
    assert outcome.totals.accepted == 100
    assert outcome.failures[:, 3].tolist() == [0, 0, 1, 1]
    assert np.allclose(outcome.up_s, when[-1])  # a cut worker is up


def test_a_bound_rejects_what_the_partition_held_back():
    _, outcome = world("events", 100, max_staleness=5)
    assert outcome.totals.rejected == 2
    assert outcome.totals.accepted + outcome.totals.rejected + outcome.totals.lost == 100


def test_a_round_goes_on_without_the_far_side():
    moments, outcome = world("barrier", 40)
    when = np.asarray(clock.to_seconds(moments.now))
    weight = moments.tick.weight
    assert (weight[when < 9.5] == 1).all()
    inside = (when > 11.5) & (when < 29.5)
    assert (weight[inside] == [1, 1, 0, 0]).all()
    assert (weight[(when > 32) & (when < 39)] == 1).all()
    assert outcome.totals.lost == 4  # two workers, at 10 s and at 40 s


@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_nothing_is_lost_or_doubled(strategy):
    run = Experiment(
        scenario="simple", challenge="unreliable", strategy=strategy, steps=60,
        aggregator="mean", timing_only=True,
        failures={"partition": {"mtbf_steps": 30, "law": "deterministic", "duration_steps": 20}},
    )  # fmt: skip
    frame = simulate(run, seeds=16).frame
    assert (frame["submitted"] == frame["accepted"] + frame["rejected"] + frame["lost"]).all()
    assert (frame["failures_partition"] > 0).all()
    if strategy == "async":
        assert (frame["submitted"] == 60 * 4).all()
