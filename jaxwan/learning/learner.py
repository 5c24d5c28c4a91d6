"""The learner: one server update per tick, on real gradients.

A block of runs is trained side by side. The loops over ticks and slots stand outside the `vmap`
over runs, so they stop at the block's longest run and largest fleet: no gradient is computed for a
padded slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.core.pytrees import replace, row
from jaxwan.core.tick import Tick
from jaxwan.learning.model import (
    Curve,
    Feed,
    Model,
    Task,
    begin,
    feed,
    part_size,
    shard_of,
    write,
)
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS
from jaxwan.learning.server import attacked, merge, own_part
from jaxwan.learning.sites import gossip, merge_regions
from jaxwan.learning.worker import contribute, send_late

__all__ = ["Curve", "Task", "evaluation_ticks", "learn"]

MERGES: dict[str, Callable[..., Model]] = {"gossip": gossip, "regions": merge_regions}


def _fetch(plan: LearnPlan, model: Model, slot: Tick) -> Model:
    """Let the slot's worker fetch the newest model."""
    if not plan.stale:
        return model
    held = row(model.fetched, slot.worker)
    new = jnp.where(slot.fetched, model.params, held)
    return model._replace(fetched=write(model.fetched, slot.worker, new))


def _slot_at(fed: Feed, index: jax.Array | int) -> Feed:
    """Return one slot of a block's feed `[run, slot, ...]`."""

    def one(x: jax.Array) -> jax.Array:
        return x if x.ndim == 1 else jax.lax.dynamic_index_in_dim(x, index, 1, False)

    return jax.tree.map(one, fed)


def _updates(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, model: Model, fed: Feed
) -> tuple[jax.Array, Model]:
    """Let every slot contribute; returns `[run, slot, dim]` and the block's models."""
    give = jax.vmap(contribute, in_axes=(None, 0, None, 0, 0))
    fetch = jax.vmap(_fetch, in_axes=(None, 0, 0))
    if plan.slots == 1:
        update, model = give(plan, knobs, task, model, _slot_at(fed, 0))
        return update[:, None], model

    def one(index: jax.Array, carry: tuple[jax.Array, Model]) -> tuple[jax.Array, Model]:
        updates, model = carry
        slot = _slot_at(fed, index)
        update, model = give(plan, knobs, task, model, slot)
        updates = jax.lax.dynamic_update_index_in_dim(updates, update, index, 1)
        early = slot.tick.fetched & (index < plan.slots - 1)
        return updates, fetch(plan, model, replace(slot.tick, fetched=early))

    runs, dim = model.params.shape
    count = plan.slots if plan.stale else jnp.max(knobs.workers)
    updates = jnp.zeros((runs, plan.slots, part_size(plan, dim)), jnp.float32)
    return jax.lax.fori_loop(0, count, one, (updates, model))


def _attack_and_send(
    plan: LearnPlan, knobs: LearnKnobs, run_keys: jax.Array, model: Model, fed: Feed,
    updates: jax.Array,
) -> tuple[jax.Array, Model]:  # fmt: skip
    """Let the attackers change their updates, then compress everybody's."""

    def corrupt(
        knobs: LearnKnobs, key: jax.Array, model: Model, fed: Feed, updates: jax.Array
    ) -> jax.Array:
        server = own_part(plan, model.server, fed.number)
        return attacked(plan, knobs, key, server, fed.tick, updates)

    updates = jax.vmap(corrupt)(knobs, run_keys, model, fed, updates)
    late = jax.vmap(send_late, in_axes=(None, 0, 0, 0, 0))

    def one(index: jax.Array, carry: tuple[jax.Array, Model]) -> tuple[jax.Array, Model]:
        updates, model = carry
        update = jax.lax.dynamic_index_in_dim(updates, index, 1, False)
        sent, model = late(plan, knobs, model, _slot_at(fed, index), update)
        return jax.lax.dynamic_update_index_in_dim(updates, sent, index, 1), model

    return jax.lax.fori_loop(0, plan.slots, one, (updates, model))


def _one_tick(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, run_keys: jax.Array, model: Model, fed: Feed
) -> Model:
    """Take one tick for a block of runs: all arguments but the plan and task are `[run, ...]`."""
    updates, model = _updates(plan, knobs, task, model, fed)
    if plan.attack_first:
        updates, model = _attack_and_send(plan, knobs, run_keys, model, fed, updates)
    together = jax.vmap(MERGES.get(plan.own, merge), in_axes=(None, 0, 0, 0, 0, 0))
    model = together(plan, knobs, run_keys, model, fed, updates)
    last = _slot_at(fed, plan.slots - 1).tick
    return jax.vmap(_fetch, in_axes=(None, 0, 0))(plan, model, last)


def evaluation_ticks(count: int, ticks: jax.Array) -> jax.Array:
    """Return after how many of `ticks [run]` each of `count + 1` points lies `[run, point]`.

    The first is 0. Whole numbers and remainders apart, so that ticks x points may pass 2**31.
    """
    points = jnp.arange(count + 1, dtype=jnp.int32)[None, :]
    whole, rest = ticks[:, None] // count, ticks[:, None] % count
    return whole * points + rest * points // count


def learn(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, run_keys: jax.Array, ticks: Tick
) -> Curve:
    """Train a block of runs on their ticks `[run, tick, slot]`; returns curves `[run, point]`."""
    problem, static = PROBLEMS[plan.problem], dict(plan.problem_static)
    marks = evaluation_ticks(plan.eval_points, knobs.ticks)  # [run, point]
    fed = jax.vmap(feed, in_axes=(None, 0, 0))(plan, run_keys, ticks)
    evaluate = jax.vmap(problem.evaluate, in_axes=(None, 0, None, 0, 0))
    shard = jax.vmap(shard_of, in_axes=(None, 0))(plan, knobs)

    def look(params: jax.Array) -> Curve:
        loss, accuracy, own = evaluate(static, knobs.problem, task, shard, params)
        return Curve(loss, accuracy, own if plan.apart else loss)

    def segment(model: Model, point: jax.Array) -> tuple[Model, Curve]:
        first, stop = marks[:, point], marks[:, point + 1]

        def step(index: jax.Array, model: Model) -> Model:
            place = first + index
            on = (place < stop)[:, None]
            now: Any = jax.vmap(row)(fed, jnp.minimum(place, ticks.worker.shape[1] - 1))
            tick = replace(
                now.tick,
                weight=jnp.where(on, now.tick.weight, 0.0),
                fresh=now.tick.fresh & on,
                fetched=now.tick.fetched & on,
            )
            return _one_tick(plan, knobs, task, run_keys, model, now._replace(tick=tick))

        model = jax.lax.fori_loop(0, jnp.max(stop - first), step, model)
        return model, look(model.params)

    model = jax.vmap(begin, in_axes=(None, 0, None, 0))(plan, knobs, task, run_keys)
    start = look(model.params)
    _, rest = jax.lax.scan(segment, model, jnp.arange(plan.eval_points))
    return jax.tree.map(
        lambda a, b: jnp.concatenate([a[:, None], jnp.moveaxis(b, 0, 1)], axis=1), start, rest
    )
