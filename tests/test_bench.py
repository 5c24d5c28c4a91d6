"""The two simulators that the bench compares must simulate the same model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwan.bench import learning as bench_learning
from jaxwan.bench.arrivals import Model, bench_arrivals, heap_arrivals, world_of
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
    assert all(line["value"] > 0 for line in lines if line["unit"] != "skipped")


@pytest.mark.parametrize("place", [1, 3])
def test_the_learner_and_numpy_train_alike(place):
    """Compare the loss after 40 steps within three standard errors; int8, and top-k trimmed."""
    case = bench_learning.CASES[place]._replace(dim=64, noise=1.0, ratio=0.1)
    runs, steps = 64, 40
    trainer = bench_learning.trainer(case, steps, 1, runs, jax.local_devices()[:1])
    mine = np.asarray(trainer.run(0)).ravel()
    theirs = np.array([bench_learning.numpy_run(case, steps, seed) for seed in range(4 * runs)])
    error = np.sqrt(mine.var() / runs + theirs.var() / len(theirs))
    assert mine.shape == (runs,)
    assert abs(mine.mean() - theirs.mean()) < 3 * error
    assert error < 0.1 * theirs.mean()


def test_learning_rows_hold_a_ratio(monkeypatch):
    idle = bench_learning.Trainer(lambda turn: None, 64, 0.5)
    monkeypatch.setattr(bench_learning, "trainer", lambda *_: idle)
    monkeypatch.setattr(bench_learning, "MEDIAN_SHAPE", (16, 128))
    lines = bench_learning.bench_learning(steps=1)
    judged = [line for line in lines if line["ok"] is not None]
    assert [line["target"] for line in judged] == [2.5, 2.5, 4.0, 4.0, 6.0]
    assert all(line["ok"] is (line["ratio"] >= line["target"]) for line in judged[:4])
    assert judged[4]["ok"] is (judged[4]["ratio"] <= 6.0)
    assert all(np.isfinite(line["value"]) and line["value"] > 0 for line in lines)
