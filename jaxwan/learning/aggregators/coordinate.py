"""Aggregators that treat each coordinate by itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Knob
from jaxwan.core.numerics import masked_mean, sorted_rows
from jaxwan.learning.aggregators.base import (
    Aggregator,
    Knobs,
    as_it_is,
    mean_up_to_two,
    needs_three,
    stateless,
)

TRIM_SLACK = np.float32(1e-4)


def average(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average the present updates by their weights."""
    return masked_mean(updates, weights, axis=0)


def needs_one(knobs: Knobs) -> int:
    """Return 1: a single slot will do."""
    return 1


def always_mean(knobs: Knobs, slots: int) -> bool:
    """Return True."""
    return True


def _present_sorted(updates: jax.Array, weights: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """Return the rows in coordinate order, absent ones last, and how many are present."""
    present = weights > 0
    rows = sorted_rows(jnp.where(present[:, None], updates, np.inf))
    return rows, jnp.sum(present, dtype=jnp.int32)


def median(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the coordinate-wise median of the present updates (Yin et al. 2018, definition 1).

    Weights count only as present or absent. NaN counts as +infinity.
    """
    rows, count = _present_sorted(updates, weights)
    middle = jnp.zeros_like(rows[0])
    low, high = (count - 1) // 2, count // 2
    for i, row in enumerate(rows):
        share = 0.5 * (low == i) + 0.5 * (high == i)
        middle = middle + jnp.where((share > 0) & (count > 0), row, 0) * share
    return middle


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
    rows, count = _present_sorted(updates, weights)
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
}
