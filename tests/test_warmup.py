"""The warm-up of a sparse compressor, alone and in the learner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwan as jw
from jaxwan.core import keys
from jaxwan.core.tick import Tick
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.messages import sizes
from jaxwan.experiment.resolve import resolve
from jaxwan.learning.compressors.warmup import scheduled
from jaxwan.learning.model import begin, feed
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS
from jaxwan.learning.worker import contribute

DIM, CYCLES = 1024, 12


def test_the_share_falls_to_its_end_in_four_stages() -> None:
    draw = jax.jit(
        jax.vmap(
            lambda length, cycle: scheduled({"ratio": 0.001, "warmup": length}, cycle)["ratio"]
        )
    )
    found = draw(jnp.full(10, 8.0), jnp.arange(10, dtype=jnp.int32))
    stages = 0.001 ** np.repeat([0.2, 0.4, 0.6, 0.8, 1.0], 2)
    np.testing.assert_allclose(found, stages, rtol=1e-5)
    np.testing.assert_allclose(stages[:8:2], [0.25, 0.0625, 0.0156, 0.004], rtol=0.02)
    lengths, cycles = jnp.float32([0, 0, 1, 1, 3, 3]), jnp.int32([0, 5, 0, 1, 2, 2**31 - 1])
    powers = np.float32([1, 1, 0.2, 1, 0.6, 1])
    np.testing.assert_allclose(draw(lengths, cycles), 0.001**powers, rtol=1e-5)


def test_knobs_without_a_warmup_stay_as_they_are() -> None:
    knobs = {"ratio": jnp.float32(0.1), "momentum": jnp.float32(0.9)}
    assert scheduled(knobs, jnp.int32(3)) is knobs


def test_a_worker_sends_by_its_own_cycle() -> None:
    plan = LearnPlan(
        problem="quadratic", problem_static=(("dim", DIM),), compressor="topk",
        compressor_static=(), feedback="", aggregator="mean", attack="", optimizer="sgd",
        optimizer_static=(), inner="", inner_static=(), local_steps=1, workers=2, slots=2,
        stale=False, eval_points=1,
    )  # fmt: skip
    one = jnp.float32(1)
    knobs = LearnKnobs(
        problem={"stiffness": one, "power": 0 * one, "noise": one, "batch": one,
                 "spread": 0 * one},
        compressor={"ratio": one / DIM, "warmup": 8 * one}, decay=one, aggregator={}, attack={},
        optimizer={"lr": one}, inner={}, workers=jnp.int32(2), ticks=jnp.int32(1),
    )  # fmt: skip
    task = PROBLEMS["quadratic"].make_task(dict(plan.problem_static))
    shape, key = (CYCLES, 1), keys.run_key(0)
    ticks = Tick(
        worker=jnp.ones(shape, jnp.int32), cycle=jnp.arange(CYCLES, dtype=jnp.int32)[:, None],
        base_age=jnp.zeros(shape, jnp.int32), weight=jnp.ones(shape), steps=jnp.ones(shape),
        attacker=jnp.zeros(shape, bool), fresh=jnp.zeros(shape, bool),
        fetched=jnp.ones(shape, bool),
    )  # fmt: skip
    fed = jax.tree.map(lambda x: x if x.ndim == 1 else x[:, 0], feed(plan, key, ticks))

    def sent(knobs: LearnKnobs) -> np.ndarray:
        model = begin(plan, knobs, task, key)
        give = jax.vmap(lambda slot: contribute(plan, knobs, task, model, slot)[0])
        return np.count_nonzero(jax.jit(give)(fed), axis=1)

    np.testing.assert_array_equal(sent(knobs), np.repeat([256, 64, 16, 4, 1, 1], 2))
    none = replace(knobs, compressor={"ratio": one / DIM})
    np.testing.assert_array_equal(sent(none), np.ones(CYCLES))


LINK = {"bandwidth_bps": 1e6, "delay_s": 0.0, "jitter_s": 0.0}


def own(strategy: str, steps: int, **compressor: Any) -> jw.Experiment:
    return jw.Experiment(
        scenario="simple", challenge="baseline", workers=3, strategy=strategy, steps=steps,
        compressor=jw.TopK(**compressor), timing_only=True, compute={"sigma": 0.0}, link=LINK,
    )  # fmt: skip


def stage_bits(ratio: float) -> list[int]:
    """Return the sizes of the four stages and the final one, each as if it were fixed."""
    kept = [ratio ** ((stage + 1) / 5) for stage in range(4)] + [ratio]
    return [sizes(resolve(own("sync", 1, ratio=each))).update_bits for each in kept]


def test_a_warm_up_is_charged_at_the_size_of_each_stage() -> None:
    """Ten rounds of three workers, two rounds in each stage; downloads are dense meanwhile."""
    row = jw.simulate(own("sync", 10, ratio=0.01, warmup=8), seeds=1).frame.iloc[0]
    bits, dense = stage_bits(0.01), 32 * 235_146
    np.testing.assert_allclose(row.bytes_sent, 3 * 2 * sum(bits) / 8, rtol=1e-5)
    np.testing.assert_allclose(row.bytes_received, 3 * (8 * dense + 2 * 3 * bits[4]) / 8, rtol=1e-5)
    on_wire = 2 * sum(bits) + 8 * dense + 2 * 3 * bits[4]
    np.testing.assert_allclose(row.time_s, 10 * 0.05 + on_wire / 1e6, rtol=1e-4)


def test_a_warm_up_is_charged_under_events_too() -> None:
    row = jw.simulate(own("async", 5, ratio=0.01, warmup=4), seeds=1).frame.iloc[0]
    np.testing.assert_allclose(row.bytes_sent, 3 * sum(stage_bits(0.01)) / 8, rtol=1e-5)
    with pytest.raises(InputError, match="warmup"):
        resolve(own("sync", 1, warmup=4).replace(exchange={"kind": "star", "ingress_bps": 1e9}))
