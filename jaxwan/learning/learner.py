"""The learner: one server update per tick, on real gradients.

A block of runs is trained side by side. The loops over ticks and slots stand outside the `vmap`
over runs, so they stop at the block's longest run and largest fleet: no gradient is computed for a
padded slot.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]

from jaxwan.core import keys
from jaxwan.core.pytrees import replace, row
from jaxwan.core.tick import Tick
from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS, Form
from jaxwan.learning.feedback import compress_with_memory, init_memory
from jaxwan.learning.optimizers import make
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS

Task = dict[str, jax.Array]


class Memory(NamedTuple):
    """What a worker keeps from cycle to cycle; a crash wipes it."""

    compressor: Any
    inner: Any  # state of the local optimizer; () without local steps


class Model(NamedTuple):
    """Everything one run has learned."""

    params: jax.Array  # [dim]
    optimizer: Any
    aggregator: Any  # what the aggregator remembers
    fetched: Any  # [worker, dim]; the model each worker holds; () under a barrier
    memory: Memory  # [worker, ...]


class Feed(NamedTuple):
    """What the learner is fed: ticks, and the addresses of their data and noise.

    The keys are worked out before the loop: inside it, XLA would work every word of a batch out
    from the run's key anew, which takes ten times as long to compile.
    """

    tick: Tick
    data: jax.Array  # [..., local step, 2]
    noise: jax.Array  # [..., 2]; of the compressor


class Curve(NamedTuple):
    """Held-out figures at the evaluation points `[point]`."""

    loss: jax.Array
    accuracy: jax.Array


def blank(plan: LearnPlan, knobs: LearnKnobs, params: jax.Array) -> Memory:
    """Return the memory of a worker that has just come."""
    inner = _inner(plan, knobs).init(params) if plan.inner else ()
    compressor = COMPRESSORS[plan.compressor]
    return Memory(init_memory(compressor, plan.feedback, form_of(plan)), inner)


def form_of(plan: LearnPlan) -> Form:
    """Return what the compressor knows of its updates."""
    layout = PROBLEMS[plan.problem].layout(dict(plan.problem_static))
    return Form(layout, dict(plan.compressor_static))


def _inner(plan: LearnPlan, knobs: LearnKnobs) -> optax.GradientTransformation:
    return make(plan.inner, knobs.inner, dict(plan.inner_static))


def feed(plan: LearnPlan, key: jax.Array, ticks: Tick) -> Feed:
    """Return a run's feed for its ticks `[tick, slot]`; `key [2]`.

    The k-th gradient of a worker has address k, however many steps a cycle has.
    """
    first = ticks.cycle[..., None] * plan.local_steps
    count = first + jnp.arange(plan.local_steps, dtype=jnp.int32)[None, None, :]
    data = keys.address(keys.stream(key, "data"), ticks.worker[..., None], count)
    noise = keys.address(keys.stream(key, "compressor"), ticks.worker, ticks.cycle)
    return Feed(ticks, data, noise)


def begin(plan: LearnPlan, knobs: LearnKnobs, task: Task, key: jax.Array) -> Model:
    """Return the model before the first tick; every worker holds it."""
    problem = PROBLEMS[plan.problem]
    params = problem.init(dict(plan.problem_static), task, keys.stream(key, "init"))
    optimizer = make(plan.optimizer, knobs.optimizer, dict(plan.optimizer_static))
    repeat = (plan.workers,)
    return Model(
        params=params,
        optimizer=optimizer.init(params),
        aggregator=_aggregator_memory(plan, params.shape[0]),
        fetched=jnp.broadcast_to(params, repeat + params.shape) if plan.stale else (),
        memory=jax.tree.map(
            lambda x: jnp.broadcast_to(x, repeat + jnp.shape(x)), blank(plan, knobs, params)
        ),
    )


def _write(tree: Any, index: jax.Array, new: Any) -> Any:
    def one(column: jax.Array, value: jax.Array) -> jax.Array:
        return column.at[index].set(value, mode="promise_in_bounds")

    return jax.tree.map(one, tree, new)


def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def work(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, params: jax.Array, state: Any, slot: Feed
) -> tuple[jax.Array, Any]:
    """Return what one cycle makes of `params [dim]`, and the local optimizer's new state.

    That is a gradient or, after H steps of the inner optimizer, the difference start - end, which
    an outer optimizer takes for a gradient (Douillard et al. 2023, algorithm 1).
    """
    static, worker = dict(plan.problem_static), slot.tick.worker

    def gradient(params: jax.Array, own: jax.Array) -> jax.Array:
        problem = PROBLEMS[plan.problem]
        return problem.gradient(static, knobs.problem, task, params, own, worker)

    if not plan.inner:
        return gradient(params, slot.data[0]), state
    optimizer = _inner(plan, knobs)

    def step(index: jax.Array, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        own, state = carry
        key = jax.lax.dynamic_index_in_dim(slot.data, index, 0, False)
        change, state = optimizer.update(gradient(own, key), state, own)
        return own + change, state

    end, state = jax.lax.fori_loop(0, plan.local_steps, step, (params, state))
    return params - end, state


def contribute(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, model: Model, slot: Feed
) -> tuple[jax.Array, Model]:
    """Return one slot's update `[dim]` and the model with that worker's memory renewed.

    A contribution of weight 0 leaves the error memory as it was, unless it was wiped.
    """
    compressor, tick = COMPRESSORS[plan.compressor], slot.tick
    params = row(model.fetched, tick.worker) if plan.stale else model.params
    before = row(model.memory, tick.worker)
    before = _select(tick.fresh, blank(plan, knobs, params), before)
    update, inner = work(plan, knobs, task, params, before.inner, slot)
    sent, rest = compress_with_memory(
        compressor, plan.feedback, form_of(plan), knobs.decay, knobs.compressor,
        before.compressor, keys.typed(slot.noise), update,
    )  # fmt: skip
    after = _select(tick.weight > 0, Memory(rest, inner), before)
    return sent, model._replace(memory=_write(model.memory, tick.worker, after))


def _fetch(plan: LearnPlan, model: Model, slot: Tick) -> Model:
    """Let the slot's worker fetch the newest model."""
    if not plan.stale:
        return model
    held = row(model.fetched, slot.worker)
    new = jnp.where(slot.fetched, model.params, held)
    return model._replace(fetched=_write(model.fetched, slot.worker, new))


def _aggregator_memory(plan: LearnPlan, dim: int) -> Any:
    return AGGREGATORS[plan.aggregator].init(dict(plan.aggregator_static), dim)


def _tick_key(key: jax.Array, purpose: str, tick: Tick) -> jax.Array:
    """Return a key for a purpose by first slot and sum of cycles: never twice in a run."""
    first = keys.address(keys.stream(key, purpose), tick.worker[0], tick.cycle[0])
    return keys.typed(keys.address(first, jnp.sum(tick.cycle)))


def aggregate(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, model: Model, tick: Tick, updates: jax.Array
) -> tuple[jax.Array, Any]:
    """Attack the updates `[slot, dim]` and make one of them; also the aggregator's new memory."""
    rule = AGGREGATORS[plan.aggregator]
    weights = rule.weigh(knobs.aggregator, tick.weight, tick.base_age, tick.steps)

    def defend(updates: jax.Array) -> tuple[jax.Array, Any]:
        kept = weights
        if plan.pre_aggregator:
            before = PRE_AGGREGATORS[plan.pre_aggregator]
            updates, kept = before.apply(
                dict(plan.pre_aggregator_static), knobs.pre_aggregator,
                _tick_key(key, "pre_aggregator", tick), updates, weights,
            )  # fmt: skip
        static, luck = dict(plan.aggregator_static), _tick_key(key, "aggregator", tick)
        return rule.apply(static, knobs.aggregator, model.aggregator, luck, updates, kept)

    if plan.attack:
        attack_key = _tick_key(key, "attack", tick)
        settings = knobs.attack | dict(plan.attack_static)
        updates = ATTACKS[plan.attack].corrupt(
            settings, attack_key, updates, tick.attacker, tick.weight, lambda x: defend(x)[0]
        )
    return defend(updates)


def merge(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, model: Model, tick: Tick, updates: jax.Array
) -> Model:
    """Aggregate the updates `[slot, dim]` and take one optimizer step; nobody present, none."""
    mean, memory = aggregate(plan, knobs, key, model, tick, updates)
    optimizer = make(plan.optimizer, knobs.optimizer, dict(plan.optimizer_static))
    step, state = optimizer.update(mean, model.optimizer, model.params)
    anyone = jnp.any(tick.weight > 0)
    return model._replace(
        params=jnp.where(anyone, model.params + step, model.params),
        optimizer=_select(anyone, state, model.optimizer),
        aggregator=_select(anyone, memory, model.aggregator),
    )


def _one_tick(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, run_keys: jax.Array, model: Model, fed: Feed
) -> Model:
    """Take one tick for a block of runs: all arguments but the plan and task are `[run, ...]`."""
    give = jax.vmap(contribute, in_axes=(None, 0, None, 0, 0))
    fetch = jax.vmap(_fetch, in_axes=(None, 0, 0))

    def slot_at(index: jax.Array | int) -> Feed:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 1, False), fed)

    def one(index: jax.Array, carry: tuple[Model, jax.Array]) -> tuple[Model, jax.Array]:
        model, updates = carry
        slot = slot_at(index)
        update, model = give(plan, knobs, task, model, slot)
        write = jax.lax.dynamic_update_index_in_dim
        updates = write(updates, update, index, 1)
        early = slot.tick.fetched & (index < plan.slots - 1)
        return fetch(plan, model, replace(slot.tick, fetched=early)), updates

    runs, dim = model.params.shape
    count = plan.slots if plan.stale else jnp.max(knobs.workers)
    if plan.slots == 1:
        update, model = give(plan, knobs, task, model, slot_at(0))
        updates = update[:, None]
    else:
        updates = jnp.zeros((runs, plan.slots, dim), jnp.float32)
        model, updates = jax.lax.fori_loop(0, count, one, (model, updates))
    model = jax.vmap(merge, in_axes=(None, 0, 0, 0, 0, 0))(
        plan, knobs, run_keys, model, fed.tick, updates
    )
    return fetch(plan, model, slot_at(plan.slots - 1).tick)


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
    look = jax.vmap(problem.evaluate, in_axes=(None, 0, None, 0))

    def segment(model: Model, point: jax.Array) -> tuple[Model, Curve]:
        first, stop = marks[:, point], marks[:, point + 1]

        def step(index: jax.Array, model: Model) -> Model:
            place = first + index
            on = (place < stop)[:, None]
            now = jax.vmap(row)(fed, jnp.minimum(place, ticks.worker.shape[1] - 1))
            tick = replace(
                now.tick,
                weight=jnp.where(on, now.tick.weight, 0.0),
                fresh=now.tick.fresh & on,
                fetched=now.tick.fetched & on,
            )
            return _one_tick(plan, knobs, task, run_keys, model, now._replace(tick=tick))

        model = jax.lax.fori_loop(0, jnp.max(stop - first), step, model)
        return model, Curve(*look(static, knobs.problem, task, model.params))

    model = jax.vmap(begin, in_axes=(None, 0, None, 0))(plan, knobs, task, run_keys)
    start = Curve(*look(static, knobs.problem, task, model.params))
    _, rest = jax.lax.scan(segment, model, jnp.arange(plan.eval_points))
    return jax.tree.map(
        lambda a, b: jnp.concatenate([a[:, None], jnp.moveaxis(b, 0, 1)], axis=1), start, rest
    )
