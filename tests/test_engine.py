"""What must always hold of a program: same ticks, same rows, no second trace, portable."""

from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

from jaxwan import engine, work
from jaxwan.api import simulate as simulate_runs
from jaxwan.core.tick import tick_room
from jaxwan.engine import Knobs, Plan, time_runs, train_runs
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.sweep import plan_job

CHALLENGES = ("baseline", "wan_bandwidth", "wan_latency", "heterogeneous", "unreliable", "churn",
              "byzantine", "extreme")  # fmt: skip
NETWORKS = ("datacenter", "lan", "fast_wan", "typical_wan", "slow_wan", "edge", "satellite")
LEARNED = ("loss_initial", "loss_final", "loss_best", "loss_floor", "train_loss_final",
           "accuracy_final", "accuracy_best", "time_to_target_s", "reached", "success",
           "failed_criteria", "status", "run_id", "config_id", "config_index")  # fmt: skip


def experiment(**changes):
    """Return a small experiment under an event protocol with failures."""
    base = {"scenario": "simple", "challenge": "unreliable", "steps": 6, "strategy": "async",
            "compressor": "topk", "aggregator": "mean", "buffer": 1}  # fmt: skip
    return Experiment(**(base | changes))


@pytest.mark.optimized
def test_sync_curve_does_not_depend_on_the_network():
    own = {"challenge": "baseline", "strategy": "sync", "buffer": None, "compressor": "none"}
    runs = [experiment(network=name, **own) for name in ("lan", "edge")]
    results = simulate_runs(runs, seeds=3)
    lan, edge = (part for _, part in results.curves.groupby("config_id", sort=False))
    assert np.array_equal(lan["loss"], edge["loss"])
    assert np.array_equal(lan["step"], edge["step"])
    begun = lan["step"].to_numpy() > 0
    assert (edge["time_s"].to_numpy() > lan["time_s"].to_numpy())[begun].all()


@pytest.mark.optimized
def test_timing_only_and_learning_runs_agree():
    learned = simulate_runs(experiment(), seeds=3).frame
    timed = simulate_runs(experiment(timing_only=True), seeds=3).frame
    shared = [name for name in learned.columns if name not in LEARNED]
    pd.testing.assert_frame_equal(learned[shared], timed[shared], check_exact=True)


@pytest.mark.optimized
def test_rows_do_not_depend_on_their_neighbours():
    alone = simulate_runs(experiment(), seeds=[7, 9, 8]).frame
    crowd = simulate_runs(experiment(), seeds=[8, 3, 5]).frame
    mine, theirs = (f[f["seed"] == 8].reset_index(drop=True) for f in (alone, crowd))
    pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


def test_all_challenges_and_networks_are_one_program_and_no_knob_retraces():
    world = [
        experiment(challenge=challenge, network=network, steps=1, timing_only=True)
        for challenge in CHALLENGES
        for network in NETWORKS
    ]
    assert len(plan_job([resolve(run) for run in world], (0,)).programs) == 1
    before = len(engine.traces)
    simulate_runs(world, seeds=1)
    assert len(engine.traces) == before + 1
    other = [
        run.replace(
            link={"bandwidth_bps": 3e6, "delay_s": 0.02, "loss": 0.1, "jitter_s": 0.001},
            compute={"sigma": 0.5, "device": "cpu"},
            strategy={"kind": "async", "max_staleness": 2, "overlap": True},
            failures={"transient": {"p": 0.1, "duration_steps": 3}, "crash": {"mtbf_s": 50.0}},
            scenario="simple",
        )
        for run in world
    ]
    simulate_runs(other, seeds=[5])
    assert len(engine.traces) == before + 1


def test_sweeping_learning_knobs_compiles_once():
    runs = [
        experiment(
            compressor={"kind": "topk", "ratio": ratio},
            optimizer={"kind": "sgd", "lr": rate},
            attackers=attackers,
            attack={"kind": "sign_flip", "scale": scale},
            steps=7,
        )
        for ratio, rate, attackers, scale in ((0.01, 0.1, 0, 1.0), (1.0, 0.01, 1, 4.0))
    ]
    before = len(engine.traces)
    simulate_runs(runs, seeds=2)
    assert len(engine.traces) == before + 2  # worlds and learners


def test_thirty_six_configurations_over_three_plans_compile_three_programs():
    runs = [
        experiment(strategy=strategy, buffer=None, compressor=compressor, network=network, steps=3)
        for strategy, compressor in (("sync", "none"), ("async", "topk"), ("async", "int8"))
        for network in NETWORKS[:6]
        for _ in range(2)
    ]
    runs = [
        run.replace(compute={"sigma": 0.1 + 0.01 * (i % 2)}) for i, run in enumerate(runs)
    ]
    job = plan_job([resolve(run) for run in runs], (0,))
    assert (len(job.experiments), len(job.programs)) == (36, 3)


def small_program(**changes):
    """Return plan, knobs and seeds of one experiment, for a chunk of two runs."""
    own = group([resolve(experiment(**changes))])[0]
    plan = Plan(own.world, own.learn, 2 if own.learn else 1, 20)
    knobs = jax.tree.map(
        lambda x: np.repeat(x, 2, axis=0), Knobs(own.world_knobs, own.learn_knobs)
    )
    return plan, knobs, np.arange(2, dtype=np.uint32)


@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_programs_export_for_every_platform(strategy):
    plan, knobs, seeds = small_program(strategy=strategy, buffer=None, steps=3)
    task, room = engine.make_task(plan.learn), tick_room((2, plan.world.ticks, plan.world.slots))
    worlds = plan.world, plan.points, True, knobs.world, seeds
    learners = plan.learn, plan.block, knobs.learn, seeds, np.int32(2), room, task
    for call, static, arguments in ((time_runs, 3, worlds), (train_runs, 2, learners)):
        jitted = jax.jit(call, static_argnums=tuple(range(static)))
        platforms = ("cpu", "cuda", "tpu")
        exported = jax.export.export(jitted, platforms=platforms)(*arguments)
        text = exported.mlir_module()
        assert exported.platforms == platforms
        assert "f64" not in text
        assert "callback" not in text


def test_no_gradient_for_padded_slots():
    """The loop over slots stops at the block's largest fleet, not at the plan's width."""
    few, many = (
        experiment(challenge="baseline", strategy="sync", buffer=None, compressor="none",
                   workers=count, steps=4)
        for count in (2, 9)
    )  # fmt: skip
    found = work.programs([resolve(few), resolve(many)], 1)
    assert [program.plan.world.workers for program in found] == [9]
    alone = simulate_runs(few, seeds=2).frame["loss_final"]
    beside = simulate_runs([few, many], seeds=2).frame["loss_final"][:2]
    assert np.allclose(alone, beside, rtol=1e-5)


def test_chunk_of_a_sweep_is_padded_with_repeats_that_leave_no_rows():
    results = simulate_runs(experiment(timing_only=True), seeds=5)
    assert results.frame["seed"].tolist() == [0, 1, 2, 3, 4]


def test_a_loss_of_the_workers_own_is_worked_out_where_their_data_differ():
    """In one program with those whose data do not: a knob never compiles again."""
    even = resolve(experiment())
    skewed = replace(even.scenario.proxy, knobs={"skew": 1.0})
    both = [even, replace(even, scenario=replace(even.scenario, proxy=skewed))]
    assert [own.learn.apart for own in group(both[:1])] == [False]
    assert [own.learn.apart for own in group(both)] == [True]
