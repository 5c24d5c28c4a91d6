"""The two simulators that the bench compares must simulate the same model."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.bench import Model, bench_arrivals, heap_arrivals, world_of
from jaxwan.core import clock
from jaxwan.world.run import run_worlds


def test_both_simulators_tell_the_same_story():
    """Compare acceptance and simulated time within three standard errors."""
    model, runs = Model(cycles=25), 128
    plan, knobs = world_of(model, runs)
    outcome = jax.jit(run_worlds, static_argnums=0)(plan, knobs, jnp.arange(runs))[1]
    plain = [heap_arrivals(model, seed) for seed in range(runs)]
    for mine, theirs in (
        (outcome.totals.accepted, [run.accepted for run in plain]),
        (clock.to_seconds(outcome.now), [run.time_s for run in plain]),
    ):
        a, b = np.asarray(mine, float), np.asarray(theirs, float)
        error = np.sqrt((a.var() + b.var()) / runs)
        assert abs(a.mean() - b.mean()) < 3 * error
        assert error < 0.01 * b.mean()


def test_bench_rows_hold_a_ratio():
    lines = bench_arrivals(runs=64, seconds=0.2)
    assert {"name", "value", "unit", "ratio", "target", "ok"} == set(lines[0])
    judged = [line for line in lines if line["ok"] is not None]
    assert [line["target"] for line in judged] == [10.0, 3.0, 3.0]
    assert all(isinstance(line["ok"], bool) for line in judged)
    assert all(line["value"] > 0 for line in lines)
