"""Error feedback: what a compressor left out is added to the next update."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.learning.compressors import Compressor, Knobs

Memory = tuple[Any, Any]


def init_memory(compressor: Compressor, feedback: bool, dim: int) -> Memory:
    """Return the empty memory (error [dim] or (), the compressor's own)."""
    error = jnp.zeros(dim, jnp.float32) if feedback else ()
    return error, compressor.init(dim)


def compress_with_memory(
    compressor: Compressor,
    feedback: bool,
    decay: jax.Array,
    knobs: Knobs,
    memory: Memory,
    key: jax.Array,
    update: jax.Array,
) -> tuple[jax.Array, Memory]:
    """Compress an update [dim], correcting it by the remembered error where `feedback` is on.

    sent = C(update + decay·e); e' = update + decay·e − sent (Seide et al. 2014; Stich et al. 2018,
    algorithm 1; Karimireddy et al. 2019, algorithm 2). `feedback` is static, `decay` traced.
    """
    error, inner = memory
    wanted = update + decay * error if feedback else update
    sent, inner = compressor.apply(knobs, inner, key, wanted)
    return sent, (wanted - sent if feedback else (), inner)
