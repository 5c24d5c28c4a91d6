"""Aggregators that shorten the updates before they average them.

A sender of NaN or infinity is left out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob
from jaxwan.core.numerics import masked_mean, row_norms, sort_small
from jaxwan.learning.aggregators.base import (
    Aggregator,
    Knobs,
    Statics,
    alone,
    as_it_is,
    needs_one,
    present_count,
    stateless,
    usable,
    whole,
)
from jaxwan.learning.aggregators.coordinate import never_mean


def clip_rows(rows: jax.Array, radius: jax.Array) -> jax.Array:
    """Scale the rows [slot, dim] that are longer than the radius down to it."""
    norms = row_norms(rows)
    share = jnp.where(norms > radius, radius / jnp.where(norms > 0, norms, 1), 1)
    return rows * share[:, None]


def centered_clipping(
    static: Statics, knobs: Knobs, memory: jax.Array, key: jax.Array, updates: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Move from the last aggregate by the mean of the updates' clipped distances to it.

    v ← v + Σ w_i clip(x_i − v, radius) / Σ w_i, so many times (Karimireddy et al. 2021). The
    memory [dim] is v; the first call starts from zeros.
    """
    heard = usable(updates, weights)
    shares, rows = jnp.where(heard, weights, 0), jnp.where(heard[:, None], updates, 0)
    radius = jnp.asarray(knobs["radius"], jnp.float32)

    def step(_: jax.Array, centre: jax.Array) -> jax.Array:
        return centre + masked_mean(clip_rows(rows - centre[None], radius), shares)

    centre = lax.fori_loop(0, whole(knobs["iterations"]), step, memory)
    return jnp.where(present_count(weights) > 0, centre, 0), centre


def zeros_at_first(static: Statics, dim: int) -> jax.Array:
    """Return zeros [dim], where centered clipping starts from."""
    return jnp.zeros(dim, jnp.float32)


def middle_norm(norms: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the lower median of the present norms [slot]; NaN counts as infinity."""
    ordered = sort_small(jnp.where(weights > 0, norms, np.inf))
    return ordered[jnp.maximum(present_count(weights) - 1, 0) // 2]


def norm_clipping(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Average by weight after clipping every update to a norm (Sun et al. 2019).

    radius = 0 stands for the lower median of the present norms.
    """
    radius = jnp.asarray(knobs["radius"], jnp.float32)
    radius = jnp.where(radius > 0, radius, middle_norm(row_norms(updates), weights))
    heard = usable(updates, weights)
    rows = clip_rows(jnp.where(heard[:, None], updates, 0), radius)
    return masked_mean(rows, jnp.where(heard, weights, 0))


def alone_and_adaptive(knobs: Knobs, slots: int) -> bool:
    """Return whether a single slot is clipped to its own norm."""
    return knobs["radius"] == 0 and alone(knobs, slots)


CLIPPING: dict[str, Aggregator] = {
    "centered_clipping": Aggregator(
        summary="Move from the last aggregate by the mean of the clipped distances to it.",
        paper="Karimireddy et al. 2021",
        knobs={
            "radius": Knob(10.0, 0.0, 1e6, "longest pull of one update", open_low=True),
            "iterations": Knob(1, 1, 100, "clipping steps per update"),
        },
        static={},
        apply=centered_clipping,
        needs=needs_one,
        is_mean=never_mean,
        against=as_it_is,
        robust=True,
        init=zeros_at_first,
        identity=False,
    ),
    "norm_clipping": Aggregator(
        summary="Average the updates after clipping them to a norm.",
        paper="Sun et al. 2019",
        knobs={"radius": Knob(0.0, 0.0, 1e6, "largest norm; 0 = the median of the norms")},
        static={},
        apply=stateless(norm_clipping),
        needs=needs_one,
        is_mean=alone_and_adaptive,
        against=as_it_is,
        robust=True,
    ),
}
