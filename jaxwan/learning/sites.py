"""Models that live at several sites: pairs that gossip, and regions that merge now and then."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.numerics import masked_mean
from jaxwan.core.pytrees import replace
from jaxwan.learning.model import Feed, Model
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.server import attacked, merge


def partners(word: jax.Array, present: jax.Array) -> jax.Array:
    """Pair those present at random: return each one's partner `[worker]`, itself where alone.

    The present are put in the order of their words, and neighbours paired (Boyd et al. 2006).
    """
    place = jnp.arange(word.shape[0], dtype=jnp.int32)
    less = (word[None, :] < word[:, None]) | (
        (word[None, :] == word[:, None]) & (place[None, :] < place[:, None])
    )
    rank = jnp.sum(less & present[None, :], axis=1, dtype=jnp.int32)
    mate = rank ^ 1
    match = (rank[None, :] == mate[:, None]) & present[None, :] & present[:, None]
    return jnp.where(jnp.any(match, axis=1), jnp.argmax(match, axis=1).astype(jnp.int32), place)


def _fleet(knobs: LearnKnobs, count: int) -> jax.Array:
    """Return 1 for the workers of the fleet, 0 for padding `[worker]`."""
    return (jnp.arange(count, dtype=jnp.int32) < knobs.workers).astype(jnp.float32)


def gossip(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, model: Model, fed: Feed, sent: jax.Array
) -> Model:
    """Let the present average their models with a partner's, as it was sent `[worker, dim]`.

    x_i ← (x_i + x_j) / 2 for random pairs (Boyd et al. 2006; Lian et al. 2017, algorithm 1). The
    server's model is the mean of everybody's: nobody holds it, it is what is evaluated.
    """
    sent = attacked(plan, knobs, key, model.server, fed.tick, sent)
    word = keys.words(keys.address(keys.stream(key, "gossip"), fed.number), plan.workers)
    partner = partners(word, fed.tick.weight > 0)
    alone = partner == jnp.arange(plan.workers)
    mixed = jnp.where(alone[:, None], model.fetched, 0.5 * (model.fetched + sent[partner]))
    mean = masked_mean(mixed, _fleet(knobs, plan.workers))
    return model._replace(fetched=mixed, params=mean)


def merge_regions(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, model: Model, fed: Feed, updates: jax.Array
) -> Model:
    """Average within every region; every `outer_every`-th round, merge the regions.

    A region's model moves by the mean of its members' differences; the outer optimizer then takes
    the mean difference between the server's model and theirs for a gradient (Jaghouar et al. 2024,
    INTELLECT-1: fast inside, DiLoCo across). Between two merges the server's model rests.
    """
    assert knobs.region is not None
    assert knobs.outer_every is not None
    tick = fed.tick
    updates = attacked(plan, knobs, key, model.server, tick, updates)
    same = (knobs.region[:, None] == knobs.region[None, :]).astype(jnp.float32)
    there = jnp.where(tick.weight[None, :] > 0, same, 0.0)
    share = there / jnp.maximum(jnp.sum(there, axis=1, keepdims=True), 1.0)
    updates = jnp.where(tick.weight[:, None] > 0, updates, 0.0)
    held = model.fetched - share @ updates
    model = model._replace(fetched=held)
    honest = replace(plan, attack="")
    outer = merge(honest, knobs, key, model, fed, model.params[None, :] - held)
    now = fed.number % knobs.outer_every == knobs.outer_every - 1
    now = now & jnp.any(tick.weight > 0)
    merged = outer._replace(fetched=jnp.broadcast_to(outer.params[None, :], held.shape))
    return jax.tree.map(lambda new, old: jnp.where(now, new, old), merged, model)
