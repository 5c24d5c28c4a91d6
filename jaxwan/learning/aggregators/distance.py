"""Aggregators that look at the distances between whole updates.

A sender of NaN or infinity is present, so it counts among the n, but is never chosen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob
from jaxwan.core.numerics import masked_mean, ranks, sort_small
from jaxwan.learning.aggregators.base import (
    TOLERATED,
    Aggregator,
    Knobs,
    alone,
    as_it_is,
    mean_up_to_two,
    needs_three,
    present_count,
    stateless,
    tolerate,
    usable,
    whole,
)
from jaxwan.learning.aggregators.coordinate import median

FAR = np.float32(1e34)  # a thousand of them still fit into float32
LEAST = np.finfo(np.float32).tiny
WEISZFELD_STEPS = 8


def square_distances(updates: jax.Array, heard: jax.Array) -> jax.Array:
    """Return |x_i − x_j|² [slot, slot], at most `FAR`, which it is to oneself and the unheard.

    Row by row, from the differences themselves: a Gram matrix would lose those among the honest
    beside an attacker's. As a product with itself, a row sums four times as fast as by a reduction.
    """

    def from_one(own: jax.Array) -> jax.Array:
        apart = updates - own[None]
        return jnp.einsum("sd,sd->s", apart, apart)

    apart = lax.map(from_one, updates)
    others = heard[None, :] & ~jnp.eye(updates.shape[0], dtype=bool)
    return jnp.where(others, jnp.minimum(apart, FAR), FAR)


def krum_scores(
    knobs: Knobs, updates: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return each slot's Krum score [slot] and how many slots are present.

    s(i) sums the n − f − 2 least |x_i − x_j|² (Blanchard et al. 2017, section 4); at least one is
    taken, so that fewer than f + 3 are defined too. A slot that cannot be chosen scores infinity.
    """
    heard, count = usable(updates, weights), present_count(weights)
    near = jnp.maximum(count - whole(knobs["f"]) - 2, 1)
    nearest = sort_small(square_distances(updates, heard), axis=1)
    taken = lax.iota(jnp.int32, updates.shape[0]) < near
    score = jnp.sum(jnp.where(taken[None, :], nearest, 0), axis=1)
    return jnp.where(heard, score, np.inf), count


def _average_best(updates: jax.Array, scores: jax.Array, m: jax.Array | int) -> jax.Array:
    """Average the m updates [slot, dim] of least finite score, ties to the lower slot."""
    best = (ranks(scores[None])[0] < m) & jnp.isfinite(scores)
    return masked_mean(updates, best.astype(jnp.float32))


def krum(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the present update of least Krum score, ties to the lower slot.

    Blanchard et al. 2017, section 4. Weights count only as present or absent.
    """
    scores, _ = krum_scores(knobs, updates, weights)
    return _average_best(updates, scores, 1)


def multi_krum(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average the m present updates of least Krum score (Blanchard et al. 2017).

    m = 0 stands for n − f. Weights count only as present or absent.
    """
    scores, count = krum_scores(knobs, updates, weights)
    m = whole(knobs["m"])
    m = jnp.where(m > 0, m, jnp.maximum(count - whole(knobs["f"]), 1))
    return _average_best(updates, scores, m)


def krum_needs(knobs: Knobs) -> int:
    """Return 2f + 3 (Blanchard et al. 2017, proposition 4.2)."""
    return 2 * round(knobs["f"]) + 3


def takes_all(knobs: Knobs, slots: int) -> bool:
    """Return whether Multi-Krum averages all of this many slots."""
    return (round(knobs["m"]) or max(slots - round(knobs["f"]), 1)) >= slots


def _middle(distances: jax.Array, heard: jax.Array) -> jax.Array:
    """Return the lower median of the heard [slot]; infinity of none."""
    ordered = sort_small(jnp.where(heard, distances, np.inf))
    return ordered[jnp.maximum(jnp.sum(heard, dtype=jnp.int32) - 1, 0) // 2]


def geometric_median(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Approach the point of least weighted sum of distances by smoothed Weiszfeld steps.

    v ← Σ β_i x_i / Σ β_i with β_i = w_i / max(nu, |v − x_i|) (Pillutla et al. 2022, algorithm 2),
    eight times from the coordinate-wise median. In step t, nu is at least the median distance
    there / 4^t, else a start on top of an update would hardly leave it. A sender so far off that
    its squared distance passes float32 is left out.
    """
    heard = usable(updates, weights)
    weights = jnp.where(heard, weights, 0)
    updates = jnp.where(heard[:, None], updates, 0)
    start = median({}, updates, weights)
    nu = jnp.maximum(jnp.asarray(knobs["nu"], jnp.float32), LEAST)

    def away(centre: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(updates - centre[None]), axis=1))

    def step(t: jax.Array, centre: jax.Array) -> jax.Array:
        least = jnp.maximum(nu, wide * jnp.exp2(-2.0 * t.astype(jnp.float32)))
        pull = weights / jnp.maximum(away(centre), least)
        pull = pull / jnp.maximum(jnp.max(pull), LEAST)
        return jnp.where(jnp.any(pull > 0), masked_mean(updates, pull), centre)

    wide = _middle(away(start), heard)
    return lax.fori_loop(0, WEISZFELD_STEPS, step, start)


DISTANCE: dict[str, Aggregator] = {
    "krum": Aggregator(
        summary="Take the update that is nearest to its neighbours.",
        paper="Blanchard et al. 2017",
        knobs={"f": TOLERATED},
        static={},
        apply=stateless(krum),
        needs=krum_needs,
        is_mean=alone,
        against=tolerate,
        robust=True,
    ),
    "multi_krum": Aggregator(
        summary="Average the updates that are nearest to their neighbours.",
        paper="Blanchard et al. 2017",
        knobs={"f": TOLERATED, "m": Knob(0, 0, 1000, "updates averaged; 0 = all but f")},
        static={},
        apply=stateless(multi_krum),
        needs=krum_needs,
        is_mean=takes_all,
        against=tolerate,
        robust=True,
    ),
    "geometric_median": Aggregator(
        summary="Take the point with the least sum of distances to the updates.",
        paper="Pillutla et al. 2022",
        knobs={"nu": Knob(1e-6, 0.0, 1.0, "least distance counted", open_low=True)},
        static={},
        apply=stateless(geometric_median),
        needs=needs_three,
        is_mean=mean_up_to_two,
        against=as_it_is,
        robust=True,
    ),
}
