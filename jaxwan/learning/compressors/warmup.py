"""Warm-up: a sparse compressor keeps more in a worker's first cycles."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.learning.compressors.base import Knobs

STAGES = 4


def scheduled(knobs: Knobs, cycle: jax.Array) -> Knobs:
    """Return the knobs for a worker's cycle number, where they have a `warmup`.

    The share that is kept falls exponentially to its final `ratio` in four equal stages over the
    first `warmup` cycles: stage s keeps ratio^((s + 1)/5), which for 0.1 % is 25 %, 6.3 %, 1.6 %
    and 0.4 % (Lin et al. 2018, section 3.3). A warm-up of 0 changes nothing.
    """
    if "warmup" not in knobs:
        return knobs
    length = jnp.maximum(jnp.asarray(knobs["warmup"]).astype(jnp.int32), 1)
    stage = STAGES * jnp.minimum(cycle, length - 1) // length
    early = jnp.asarray(knobs["ratio"]) ** ((stage + 1) / (STAGES + 1))
    done = cycle >= jnp.asarray(knobs["warmup"])
    return {**knobs, "ratio": jnp.where(done, knobs["ratio"], early)}
