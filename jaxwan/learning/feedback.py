"""Error feedback: what a compressor left out is added to the next update."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.learning.compressors import Compressor, Form, Knobs

Memory = tuple[Any, Any]
FEEDBACKS = ("", "plain", "ef21")


def init_memory(compressor: Compressor, feedback: str, form: Form) -> Memory:
    """Return the empty memory (error or estimate [dim], or (); the compressor's own)."""
    error = jnp.zeros(form.dim, jnp.float32) if feedback else ()
    return error, compressor.init(form)


def compress_with_memory(
    compressor: Compressor,
    feedback: str,
    form: Form,
    decay: jax.Array,
    knobs: Knobs,
    memory: Memory,
    key: jax.Array,
    update: jax.Array,
) -> tuple[jax.Array, Memory]:
    """Compress an update [dim], correcting it by the remembered error where there is `feedback`.

    "plain": sent = C(update + decay·e); e' = update + decay·e − sent (Seide et al. 2014; Stich et
    al. 2018, algorithm 1; Karimireddy et al. 2019, algorithm 2). "ef21": both sides keep an
    estimate g of the update and C(update − g) is sent; the receiver takes g' = g + C(update − g)
    for the update (Richtárik et al. 2021, algorithm 2). `feedback` is static, `decay` traced.
    """
    error, inner = memory
    if feedback == "ef21":
        sent, inner = compressor.apply(form, knobs, inner, key, update - error)
        return error + sent, (error + sent, inner)
    wanted = update + decay * error if feedback else update
    sent, inner = compressor.apply(form, knobs, inner, key, wanted)
    return sent, (wanted - sent if feedback else (), inner)
