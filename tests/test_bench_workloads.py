"""The bench's NumPy loops and rivals do what the package does, and its parts hold together."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwan.bench import report, rivals, widths, workloads
from jaxwan.bench.arrivals import heap_arrivals
from jaxwan.bench.rivals import Model
from jaxwan.bench.trainers import chosen_width, program_of
from jaxwan.cli import main
from jaxwan.learning.aggregators import AGGREGATORS
from jaxwan.learning.problems import mixture, mlp
from jaxwan.work import LEARNING_CHUNK, block_width

STATIC = {"widths": (workloads.FEATURES, workloads.HIDDEN, workloads.CLASSES)}


def test_numpy_makes_the_learners_gradient():
    rng = np.random.default_rng(1)
    params = rng.normal(0, 0.05, 79_510).astype(np.float32)
    x = rng.standard_normal((workloads.BATCH, workloads.FEATURES), dtype=np.float32)
    label = rng.integers(0, workloads.CLASSES, workloads.BATCH)
    mine = np.empty_like(params)
    workloads.numpy_gradient(params, x, label, mine)
    batch = mixture.Batch(jnp.asarray(x), jnp.asarray(label))
    theirs = jax.grad(mixture.loss, argnums=2)(mlp.logits, STATIC, jnp.asarray(params), batch)
    np.testing.assert_allclose(mine, theirs, atol=2e-6)
    assert np.abs(mine).max() > 0.01


@pytest.mark.parametrize("load", workloads.WORKLOADS, ids=lambda load: load.aggregator)
def test_numpy_merges_as_the_learner_does(load):
    updates = np.random.default_rng(2).standard_normal((load.workers, 40), dtype=np.float32)
    updates[3] += 5
    knobs = {"trim_ratio": jnp.float32(0.2), "f": jnp.float32(workloads.TOLERATED)}
    rule = AGGREGATORS[load.aggregator].apply
    weights, key = jnp.ones(load.workers), jax.random.key(0)
    theirs = rule({}, knobs, (), key, jnp.asarray(updates), weights)[0]
    np.testing.assert_allclose(workloads.RULES[load.aggregator](updates), theirs, atol=1e-5)


@pytest.mark.parametrize("load", workloads.WORKLOADS, ids=lambda load: load.name)
def test_a_workload_is_what_it_says(load):
    plan = program_of(workloads.experiment_of(load, 3), 8).plan
    assert (plan.learn.workers, plan.learn.local_steps) == (load.workers, load.local_steps)
    assert plan.learn.aggregator == load.aggregator
    assert dict(plan.learn.problem_static)["widths"] == STATIC["widths"]
    assert plan.world.ticks == 3


def test_numpy_learns():
    load = workloads.WORKLOADS[2]._replace(workers=2)
    data = workloads.data_of(load)
    begun, ended = (workloads.numpy_run(load, data, rounds, 0) for rounds in (0, 3))
    assert ended < begun - 0.05


def same_story(run, seeds):
    """Compare acceptance and simulated time with the heap's within three standard errors."""
    model = Model(cycles=20)
    mine = [run(model, seed) for seed in range(seeds)]
    theirs = [heap_arrivals(model, seed) for seed in range(seeds)]
    for name in ("accepted", "time_s"):
        a, b = (np.array([getattr(each, name) for each in runs]) for runs in (mine, theirs))
        error = np.sqrt((a.var() + b.var()) / seeds)
        assert abs(a.mean() - b.mean()) < 3 * error
        assert error < 0.02 * b.mean()


def test_the_loop_for_numba_tells_the_same_story():
    same_story(rivals.plain_arrivals, 100)


def test_simpy_tells_the_same_story():
    pytest.importorskip("simpy")
    same_story(rivals.simpy_arrivals, 100)


def test_a_rival_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(rivals, "installed", lambda package: False)
    lines = rivals.bench_rivals(Model(), 1.0, 0.1)
    assert [row["unit"] for row in lines] == ["skipped", "skipped"]
    assert all(".[bench]" in row["name"] for row in lines)


def test_blocks_are_a_few_wide_at_least_and_wide_on_accelerators():
    standard = workloads.experiment_of(workloads.WORKLOADS[0], 3)
    assert chosen_width(standard) in (2, 4, 8)
    plan = program_of(standard, 128).plan.learn
    assert block_width(plan, "gpu") == block_width(plan, "tpu") == LEARNING_CHUNK
    assert block_width(None) == 1


def test_a_scan_names_the_share_of_the_best(monkeypatch):
    speeds = (50.0, 80.0, 100.0, 70.0, 60.0, 40.0)

    class Idle:
        run, amount = None, 1.0

    monkeypatch.setattr(widths, "trainer", lambda *_: Idle())
    told = np.array([speeds])
    monkeypatch.setattr(widths, "paces", lambda *_: told)
    monkeypatch.setattr(widths, "chosen_width", lambda _: 2)
    last = widths.scan("W", None)[-1]
    assert last["ratio"] == pytest.approx(0.8)
    assert last["ok"] is False


def test_records_become_markdown(monkeypatch):
    row = {"name": "x", "value": 2.0, "unit": "1/s", "ratio": 3.0, "target": 5.0, "ok": False}
    monkeypatch.setitem(report.PARTS, "sweeps", lambda: [row])
    text = report.markdown(report.measure(["sweeps"]))
    assert "| x | 2 | 1/s | 3 | 5 | **no** |" in text


def test_an_unknown_part_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jaxwan", "bench", "--only", "width"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "widths" in capsys.readouterr().err
