"""Aggregators that treat each coordinate by itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob
from jaxwan.core.numerics import masked_mean, sort_small, sorted_rows
from jaxwan.learning.aggregators.base import (
    TOLERATED,
    Aggregator,
    Knobs,
    as_it_is,
    drops_nobody,
    mean_up_to_two,
    needs_majority,
    needs_one,
    needs_three,
    stateless,
    tolerate,
    usable,
    whole,
)

TRIM_SLACK = np.float32(1e-4)


def average(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average the present updates by their weights."""
    return masked_mean(updates, weights, axis=0)


def always_mean(knobs: Knobs, slots: int) -> bool:
    """Return True."""
    return True


def _sorted_where(updates: jax.Array, present: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """Return the rows in coordinate order, absent ones last, and how many are present."""
    rows = sorted_rows(jnp.where(present[:, None], updates, np.inf))
    return rows, jnp.sum(present, dtype=jnp.int32)


def _middle(rows: list[jax.Array], count: jax.Array) -> jax.Array:
    """Return the median [dim] of the first `count` of the sorted rows."""
    middle = jnp.zeros_like(rows[0])
    low, high = (count - 1) // 2, count // 2
    for i, row in enumerate(rows):
        share = 0.5 * (low == i) + 0.5 * (high == i)
        middle = middle + jnp.where((share > 0) & (count > 0), row, 0) * share
    return middle


def median(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the coordinate-wise median of the present updates (Yin et al. 2018, definition 1).

    Weights count only as present or absent. NaN counts as +infinity.
    """
    return _middle(*_sorted_where(updates, weights > 0))


def trim_count(ratio: Any, count: Any) -> Any:
    """Return how many of `count` are trimmed on each side: floor(ratio·count), leaving one.

    Computed in float32 with a slack of 1e-4, so that 2/7 of 7 is 2. A traced count gives an int32
    array, a plain number the same value as a Python int.
    """
    if not isinstance(count, jax.Array):
        wanted = np.floor(np.float32(ratio) * np.float32(count) + TRIM_SLACK)
        return min(int(wanted), max(count - 1, 0) // 2)
    traced = jnp.floor(jnp.asarray(ratio, jnp.float32) * count.astype(jnp.float32) + TRIM_SLACK)
    return jnp.minimum(traced.astype(jnp.int32), jnp.maximum(count - 1, 0) // 2)


def trimmed_mean(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average each coordinate without its extremes (Yin et al. 2018, definition 2).

    floor(trim_ratio·present) are dropped on each side. Weights count only as present or absent.
    NaN counts as +infinity.
    """
    rows, count = _sorted_where(updates, weights > 0)
    trim = trim_count(knobs["trim_ratio"], count)
    share = 1.0 / jnp.maximum(count - 2 * trim, 1).astype(jnp.float32)
    total = jnp.zeros_like(rows[0])
    for i, row in enumerate(rows):
        total = total + jnp.where((i >= trim) & (i < count - trim), row, 0) * share
    return total


def trim_needs(knobs: Knobs) -> int:
    """Return 3 where anything is to be trimmed, else 1."""
    return 3 if knobs["trim_ratio"] > 0 else 1


def trim_against(attackers: int, slots: int) -> dict[str, float]:
    """Return the ratio that drops as many as there are attackers, on each side."""
    return {"trim_ratio": attackers / slots}


def trims_nothing(knobs: Knobs, slots: int) -> bool:
    """Return whether nothing is trimmed of this many slots."""
    return trim_count(knobs["trim_ratio"], slots) == 0


def around_median(updates: jax.Array, present: jax.Array, m: jax.Array) -> jax.Array:
    """Average, coordinate by coordinate, the m present values nearest to their median [dim].

    In order they are neighbours, the m in a row whose farther end is nearest. Ties go to the
    smaller value. NaN and infinity are never averaged.
    """
    rows = sort_small(jnp.where(present[:, None], updates, np.inf))
    middle = _middle(list(rows), jnp.sum(present, dtype=jnp.int32))
    middle = jnp.where(jnp.isfinite(middle), middle, 0)[None]
    above = jnp.concatenate([rows, jnp.full_like(rows, np.inf)])
    above = lax.dynamic_slice_in_dim(above, jnp.maximum(m, 1) - 1, rows.shape[0])
    farther = jnp.maximum(middle - rows, above - middle)  # of the m values from here on
    reach = jnp.min(farther, axis=0, keepdims=True)

    def count(marked: jax.Array) -> jax.Array:
        return jnp.sum(marked, axis=0, keepdims=True, dtype=jnp.int32)

    below = middle - rows
    spare = m - count(jnp.abs(below) < reach)  # so many lie at the edge
    start = count(below >= reach) - jnp.minimum(spare, count(below == reach))
    place = lax.broadcasted_iota(jnp.int32, rows.shape, 0)
    taken = (place >= start) & (place < start + m) & jnp.isfinite(rows)
    share = 1.0 / jnp.maximum(jnp.sum(taken, axis=0), 1).astype(jnp.float32)
    return jnp.sum(jnp.where(taken, rows, 0) * share[None], axis=0)


def mean_around_median(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average the n − f values of each coordinate that are nearest to their median.

    Xie et al. 2018 ("mean around median"). At least one is averaged, ties go to the
    smaller value. Weights count only as present or absent. NaN and infinity count among the n but
    are never averaged.
    """
    present = weights > 0
    m = jnp.maximum(jnp.sum(present, dtype=jnp.int32) - whole(knobs["f"]), 1)
    return around_median(updates, present, m)


def sign_majority(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the sign that most present updates have in each coordinate: 1, −1, or 0 for a draw.

    Bernstein et al. 2019, algorithm 1. The result is not scaled: the learning rate is the size of
    a step in every coordinate. Weights count only as present or absent; a sender of NaN or
    infinity has no vote.
    """
    heard = usable(updates, weights)[:, None]
    return jnp.sign(jnp.sum(jnp.where(heard, jnp.sign(updates), 0), axis=0))


def never_mean(knobs: Knobs, slots: int) -> bool:
    """Return False."""
    return False


COORDINATE: dict[str, Aggregator] = {
    "mean": Aggregator(
        summary="Average by weight.",
        paper="McMahan et al. 2017",
        knobs={},
        static={},
        apply=stateless(average),
        needs=needs_one,
        is_mean=always_mean,
        against=as_it_is,
        robust=False,
    ),
    "median": Aggregator(
        summary="Take the median of each coordinate.",
        paper="Yin et al. 2018",
        knobs={},
        static={},
        apply=stateless(median),
        needs=needs_three,
        is_mean=mean_up_to_two,
        against=as_it_is,
        robust=True,
    ),
    "trimmed_mean": Aggregator(
        summary="Average each coordinate without its largest and smallest values.",
        paper="Yin et al. 2018",
        knobs={"trim_ratio": Knob(0.1, 0.0, 0.4999, "fraction dropped on each side")},
        static={},
        apply=stateless(trimmed_mean),
        needs=trim_needs,
        is_mean=trims_nothing,
        against=trim_against,
        robust=True,
    ),
    "mean_around_median": Aggregator(
        summary="Average the values of each coordinate that are nearest to their median.",
        paper="Xie et al. 2018",
        knobs={"f": TOLERATED},
        static={},
        apply=stateless(mean_around_median),
        needs=needs_majority,
        is_mean=drops_nobody,
        against=tolerate,
        robust=True,
    ),
    "sign_majority": Aggregator(
        summary="Take the sign of each coordinate by majority vote: 1, -1, or 0 for a draw.",
        paper="Bernstein et al. 2019",
        knobs={},
        static={},
        apply=stateless(sign_majority),
        needs=needs_one,
        is_mean=never_mean,
        against=as_it_is,
        robust=True,
        identity=False,
    ),
}
