"""Warm-up: a sparse compressor keeps more in a worker's first cycles."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core.schedule import STAGES, stage_of, warmed
from jaxwan.learning.compressors.base import Knobs


def scheduled(knobs: Knobs, cycle: jax.Array) -> Knobs:
    """Return the knobs for a worker's cycle number, where they have a `warmup`.

    The share that is kept falls exponentially to its final `ratio` in four equal stages over the
    first `warmup` cycles. A warm-up of 0 changes nothing.
    """
    if "warmup" not in knobs:
        return knobs
    stage = stage_of(knobs["warmup"], cycle)
    ratio = jnp.asarray(knobs["ratio"])
    return {**knobs, "ratio": jnp.where(stage < STAGES, warmed(ratio, stage), ratio)}
