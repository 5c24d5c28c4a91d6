"""What a worker does in one cycle: local steps on real gradients, then compression."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.pytrees import row
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.compressors.warmup import scheduled
from jaxwan.learning.feedback import compress_with_memory
from jaxwan.learning.model import (
    Feed,
    Memory,
    Model,
    Task,
    blank,
    form_of,
    inner_optimizer,
    part_size,
    parts,
    select,
    write,
)
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS


class Worked(NamedTuple):
    """What one cycle made."""

    update: jax.Array  # [dim], or [size] of a fragment; what is to be sent
    end: jax.Array  # [dim]; the model after the local steps
    inner: Any  # the local optimizer's state


def fragment_of(plan: LearnPlan, number: jax.Array) -> jax.Array:
    """Return which fragment a tick exchanges."""
    return number % plan.fragments


def taken_over(
    plan: LearnPlan, knobs: LearnKnobs, number: jax.Array, server: jax.Array, own: jax.Array
) -> jax.Array:
    """Blend the fragment that the tick before merged into a worker's own model.

    own ← mixing·own + (1 − mixing)·server (Douillard et al. 2025, algorithm 2).
    """
    assert knobs.mixing is not None
    place = jax.lax.iota(jnp.int32, own.shape[0]) // part_size(plan, own.shape[0])
    fragment = fragment_of(plan, number + plan.fragments - 1)
    blended = knobs.mixing * own + (1 - knobs.mixing) * server
    return jnp.where((place == fragment) & (number > 0), blended, own)


def _gradient(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, params: jax.Array, key: jax.Array, slot: Feed
) -> jax.Array:
    poison = ATTACKS[plan.attack].poison_batch if plan.attack else None
    attacker = slot.tick.attacker

    def relabel(label: jax.Array, classes: int) -> jax.Array:
        return label if poison is None else jnp.where(attacker, poison(label, classes), label)

    problem, static = PROBLEMS[plan.problem], dict(plan.problem_static)
    return problem.gradient(
        static, knobs.problem, task, params, key, slot.tick.worker, relabel if poison else None
    )


def local_steps(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, model: Model, start: jax.Array, state: Any,
    slot: Feed,
) -> tuple[jax.Array, Any]:  # fmt: skip
    """Return where the local steps from `start [dim]` end, and the optimizer's new state."""
    optimizer, streams = inner_optimizer(plan, knobs), plan.own == "stream"
    delay = jnp.int32(0) if knobs.delay is None else knobs.delay

    def received(own: jax.Array, now: jax.Array) -> jax.Array:
        new = taken_over(plan, knobs, slot.number, model.params, own)
        return jnp.where(now, new, own)

    def step(index: jax.Array, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        own, state = carry
        if streams:
            own = received(own, index == delay)
        key = jax.lax.dynamic_index_in_dim(slot.data, index, 0, False)
        slope = _gradient(plan, knobs, task, own, key, slot)
        change, after = optimizer.update(slope, state, own)
        if plan.uneven:
            on = index < slot.tick.steps.astype(jnp.int32)
            change, after = jnp.where(on, change, 0), select(on, after, state)
        return own + change, after

    end, state = jax.lax.fori_loop(0, plan.local_steps, step, (start, state))
    if streams:
        end = received(end, delay >= plan.local_steps)
    return end, state


def work(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, model: Model, state: Any, slot: Feed
) -> Worked:
    """Let a worker compute one cycle.

    It makes a gradient or, after H steps of the inner optimizer, the difference start − end, which
    an outer optimizer takes for a gradient (Douillard et al. 2023, algorithm 1). A worker that
    keeps a model of its own sends the difference to the server's; in gossip, the model itself.
    """
    params, tick = model.params, slot.tick
    start = row(model.fetched, tick.worker) if plan.holds else params
    if plan.own in ("stream", "elastic", "gossip"):
        start = jnp.where(tick.fresh, params, start)
    if not plan.inner:
        return Worked(_gradient(plan, knobs, task, start, slot.data[0], slot), start, state)
    end, state = local_steps(plan, knobs, task, model, start, state, slot)
    if plan.own == "gossip":
        return Worked(end, end, state)
    anchor = params if plan.own in ("stream", "elastic") else start
    update = anchor - end
    if plan.fragments > 1:
        place = fragment_of(plan, slot.number)
        update = jax.lax.dynamic_index_in_dim(parts(plan, update), place, 0, False)
    if plan.own == "elastic":
        assert knobs.mixing is not None
        end = knobs.mixing * end + (1 - knobs.mixing) * params
    return Worked(update, end, state)


def remembered(plan: LearnPlan, knobs: LearnKnobs, model: Model, slot: Feed) -> Memory:
    """Return what the slot's worker remembers; nothing after a wipe."""
    before = row(model.memory, slot.tick.worker)
    return select(slot.tick.fresh, blank(plan, knobs, model.params), before)


def send(
    plan: LearnPlan, knobs: LearnKnobs, before: Memory, slot: Feed, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Compress an update; also return what the compressor then remembers."""
    place, kept = fragment_of(plan, slot.number), before.compressor
    own = kept if plan.fragments == 1 else row(kept, place)
    sent, rest = compress_with_memory(
        COMPRESSORS[plan.compressor], plan.feedback, form_of(plan, plan.compressor_static),
        knobs.decay, scheduled(knobs.compressor, slot.tick.cycle), own, keys.typed(slot.noise),
        update,
    )  # fmt: skip
    return sent, rest if plan.fragments == 1 else write(kept, place, rest)


def settle(
    plan: LearnPlan, model: Model, slot: Feed, before: Memory, after: Memory, end: jax.Array
) -> Model:
    """Write down what the slot's worker keeps.

    A contribution of weight 0 leaves its memory and its own model as they were, unless wiped.
    """
    tick = slot.tick
    kept = select(tick.weight > 0, after, before)
    model = model._replace(memory=write(model.memory, tick.worker, kept))
    if plan.own in ("stream", "elastic", "gossip"):
        start = jnp.where(tick.fresh, model.params, row(model.fetched, tick.worker))
        held = jnp.where(tick.weight > 0, end, start)
        model = model._replace(fetched=write(model.fetched, tick.worker, held))
    return model


def contribute(
    plan: LearnPlan, knobs: LearnKnobs, task: Task, model: Model, slot: Feed
) -> tuple[jax.Array, Model]:
    """Return one slot's message, decoded, and the model with that worker's memory renewed.

    With `attack_first` the message is the update itself: it is compressed after the attack.
    """
    before = remembered(plan, knobs, model, slot)
    worked = work(plan, knobs, task, model, before.inner, slot)
    sent, rest = worked.update, before.compressor
    if not plan.attack_first:
        sent, rest = send(plan, knobs, before, slot, worked.update)
    after = Memory(rest, worked.inner)
    return sent, settle(plan, model, slot, before, after, worked.end)


def send_late(
    plan: LearnPlan, knobs: LearnKnobs, model: Model, slot: Feed, update: jax.Array
) -> tuple[jax.Array, Model]:
    """Compress a slot's update after the attackers have changed theirs."""
    before = row(model.memory, slot.tick.worker)
    sent, rest = send(plan, knobs, before, slot, update)
    kept = select(slot.tick.weight > 0, before._replace(compressor=rest), before)
    return sent, model._replace(memory=write(model.memory, slot.tick.worker, kept))
