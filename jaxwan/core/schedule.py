"""Stages of a warm-up, counted in a worker's own cycles."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

STAGES = 4


def stage_of(warmup: jax.Array, cycle: jax.Array) -> jax.Array:
    """Return the stage of a cycle, int32: 0 to 3 during the warm-up, 4 after it."""
    length = jnp.maximum(jnp.asarray(warmup).astype(jnp.int32), 1)
    stage = STAGES * jnp.minimum(cycle, length - 1) // length
    return jnp.where(cycle >= jnp.asarray(warmup), STAGES, jnp.maximum(stage, 0))


def warmed(ratio: Any, stage: Any) -> Any:
    """Return the share that is kept in a stage: ratio^((stage + 1)/5), at last the ratio itself.

    For 0.1 % that is 25 %, 6.3 %, 1.6 % and 0.4 % before it (Lin et al. 2018, section 3.3).
    """
    return ratio ** ((stage + 1) / (STAGES + 1))
