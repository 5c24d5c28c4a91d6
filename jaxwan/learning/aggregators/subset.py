"""Aggregators that look for a subset of the updates.

A sender of NaN or infinity is present, so it counts among the n, but is never chosen.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Static
from jaxwan.core.numerics import masked_mean
from jaxwan.learning.aggregators.base import (
    TOLERATED,
    Aggregator,
    Knobs,
    Statics,
    drops_nobody,
    needs_majority,
    present_count,
    stateless,
    tolerate,
    usable,
    whole,
)
from jaxwan.learning.aggregators.coordinate import around_median
from jaxwan.learning.aggregators.distance import square_distances

MOST_SLOTS = 16


def repeated_krum(updates: jax.Array, weights: jax.Array, f: jax.Array) -> jax.Array:
    """Mark the n − 2f slots that Krum picks one after another, each from those left [slot].

    At least one is marked where there is one to choose; ties go to the lower slot.
    """
    heard, count = usable(updates, weights), present_count(weights)
    apart = square_distances(updates, heard)
    order = jnp.argsort(apart, axis=1, stable=True)
    apart = jnp.take_along_axis(apart, order, axis=1)

    def pick(turn: jax.Array, left: jax.Array) -> jax.Array:
        near = jnp.maximum(count - turn - f - 2, 1)
        there = left[order] & (order != lax.iota(jnp.int32, left.shape[0])[:, None])
        taken = there & (jnp.cumsum(there, axis=1, dtype=jnp.int32) <= near)
        score = jnp.where(left, jnp.sum(jnp.where(taken, apart, 0), axis=1), np.inf)
        return left & (lax.iota(jnp.int32, left.shape[0]) != jnp.argmin(score))

    left = lax.fori_loop(0, jnp.maximum(count - 2 * f, 1), pick, heard)
    return heard & ~left


def bulyan(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average around the median what Krum picks (El Mhamdi et al. 2018).

    Krum selects n − 2f updates one by one; of these, the n − 4f values of each coordinate that are
    nearest to the median are averaged, at least one. Weights count only as present or absent.
    """
    f = whole(knobs["f"])
    chosen = repeated_krum(updates, weights, f)
    return around_median(updates, chosen, jnp.maximum(present_count(weights) - 4 * f, 1))


def bulyan_needs(knobs: Knobs) -> int:
    """Return 4f + 3 (El Mhamdi et al. 2018)."""
    return 4 * round(knobs["f"]) + 3


@lru_cache(maxsize=16)
def subsets(slots: int, dropped: int) -> np.ndarray:
    """Return which slots are kept [subset, slot] where so many are dropped, in lexical order."""
    kept = list(combinations(range(slots), slots - dropped))
    table = np.zeros((len(kept), slots), bool)
    np.put_along_axis(table, np.array(kept, int).reshape(len(kept), -1), True, axis=1)
    return table


def least_diameter(
    static: Statics, knobs: Knobs, memory: Any, key: jax.Array, updates: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, Any]:  # fmt: skip
    """Average the n − f present updates of least diameter (El Mhamdi et al. 2020).

    The diameter is the largest distance between two of them; ties go to the first subset in
    lexical order. Where no more than f are present, the first of them stays. Senders of NaN or
    infinity go first. Weights count only as present or absent.
    """
    heard, present = usable(updates, weights), weights > 0
    slots = updates.shape[0]
    table = jnp.asarray(subsets(slots, min(static["f"], slots)))  # [subset, slot]
    valid = jnp.all(table | present[None, :], axis=1)
    broken = jnp.sum(table & (present & ~heard)[None, :], axis=1, dtype=jnp.int32)
    broken = jnp.where(valid, broken, slots + 1)
    kept = table & heard[None, :]
    apart = jnp.where(jnp.eye(slots, dtype=bool), 0, square_distances(updates, heard))
    both = kept[:, :, None] & kept[:, None, :]
    widths = jnp.max(jnp.where(both, apart[None], 0), axis=(1, 2))
    widths = jnp.where(valid & (broken == jnp.min(broken)), widths, np.inf)
    best = kept[jnp.argmin(widths)]
    first = lax.iota(jnp.int32, slots) == jnp.argmax(heard)
    best = jnp.where(present_count(weights) > static["f"], best, first & heard)
    return masked_mean(updates, best.astype(jnp.float32)), memory


SUBSET: dict[str, Aggregator] = {
    "bulyan": Aggregator(
        summary="Select by Krum again and again, then average around the median.",
        paper="El Mhamdi et al. 2018",
        knobs={"f": TOLERATED},
        static={},
        apply=stateless(bulyan),
        needs=bulyan_needs,
        is_mean=drops_nobody,
        against=tolerate,
        robust=True,
    ),
    "mda": Aggregator(
        summary="Average the subset of all but f updates that has the least diameter.",
        paper="El Mhamdi et al. 2020",
        knobs={},
        static={"f": Static(1, "attackers tolerated", low=0, high=MOST_SLOTS)},
        apply=least_diameter,
        needs=needs_majority,
        is_mean=drops_nobody,
        against=tolerate,
        robust=True,
        most=MOST_SLOTS,
    ),
}
