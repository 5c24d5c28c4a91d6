"""A learner on a quadratic, and ticks written by hand."""

import jax
import numpy as np

from jaxwan.core import keys
from jaxwan.core.tick import Tick
from jaxwan.learning.learner import learn
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS


def scalars(**values):
    """Return a dict of knobs `[1]` for a block of one run."""
    return {name: np.full(1, value, np.float32) for name, value in values.items()}


def quadratic(*, workers, slots, stale, ticks, lr, dim, points, noise=0.0, momentum=None,
              spread=0.0):  # fmt: skip
    """Return plan and knobs of plain averaging on an isotropic quadratic of curvature 1."""
    plan = LearnPlan(
        problem="quadratic", problem_static=(("dim", dim),), compressor="none",
        compressor_static=(), feedback="", aggregator="mean", attack="",
        optimizer="sgd" if momentum is None else "momentum",
        optimizer_static=() if momentum is None else (("nesterov", False),),
        inner="", inner_static=(), local_steps=1,
        workers=workers, slots=slots, stale=stale, eval_points=points,
    )  # fmt: skip
    rates = {"lr": lr} if momentum is None else {"lr": lr, "momentum": momentum}
    knobs = LearnKnobs(
        problem=scalars(stiffness=1.0, power=0.0, noise=noise, batch=1.0, spread=spread),
        compressor={}, decay=np.ones(1, np.float32), aggregator={}, attack={},
        optimizer=scalars(**rates), inner={}, workers=np.full(1, workers, np.int32),
        ticks=np.full(1, ticks, np.int32),
    )  # fmt: skip
    return plan, knobs


def round_robin(ticks, workers):
    """Return ticks of one slot, one worker after the other: every base is workers - 1 old."""
    order = np.arange(ticks, dtype=np.int32)
    shape = (1, ticks, 1)
    return Tick(
        worker=(order % workers).reshape(shape),
        cycle=(order // workers).reshape(shape),
        base_age=np.minimum(order, workers - 1).reshape(shape),
        weight=np.ones(shape, np.float32),
        steps=np.ones(shape, np.float32),
        attacker=np.zeros(shape, bool),
        fresh=np.zeros(shape, bool),
        fetched=np.ones(shape, bool),
    )


def rounds(ticks, workers):
    """Return barrier ticks in which all workers take part."""
    shape = (1, ticks, workers)
    return Tick(
        worker=np.broadcast_to(np.arange(workers, dtype=np.int32), shape),
        cycle=np.broadcast_to(np.arange(ticks, dtype=np.int32)[None, :, None], shape),
        base_age=np.zeros(shape, np.int32),
        weight=np.ones(shape, np.float32),
        steps=np.ones(shape, np.float32),
        attacker=np.zeros(shape, bool),
        fresh=np.zeros(shape, bool),
        fetched=np.ones(shape, bool),
    )


def train(plan, knobs, ticks, seed=0):
    """Return the loss curve `[point]` of one run."""
    task = PROBLEMS["quadratic"].make_task(dict(plan.problem_static))
    key = keys.run_key(seed)[None]
    return np.asarray(jax.jit(learn, static_argnums=0)(plan, knobs, task, key, ticks).loss[0])
