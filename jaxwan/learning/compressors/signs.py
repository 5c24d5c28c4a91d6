"""Compressors that send one bit an entry, beside the scaled sign."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Knob
from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Wire, no_memory


def two_means(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send the mean of the nonnegative entries for each of them, and likewise of the negative.

    The nearest of all vectors that take one value on each of the two sets, so that
    |C(x) − x|² = |x|² − |C(x)|² (Seide et al. 2014, who do so by columns).
    """
    high = update >= 0

    def mean(chosen: jax.Array) -> jax.Array:
        count = jnp.maximum(jnp.sum(chosen, dtype=jnp.int32), 1)
        return jnp.sum(jnp.where(chosen, update / count.astype(jnp.float32), 0))

    return jnp.where(high, mean(high), mean(~high)), memory


def means_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 1 bit an entry and two float32."""
    return Wire(form.dim, 1.0, 64)


def pack_means(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the two means, negative first, then one bit an entry."""
    pair = np.array([sent.min(), sent.max()], np.float32)
    return pair.astype("<f4").tobytes() + np.packbits(sent == pair[1]).tobytes()


def unpack_means(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the two means and the bits."""
    low, high = np.frombuffer(blob, "<f4", 2).astype(np.float32)
    bits = np.unpackbits(np.frombuffer(blob, np.uint8, offset=8), count=form.dim).astype(bool)
    return np.where(bits, high, low)


def zero_momentum(form: Form) -> jax.Array:
    """Return the momentum [dim] of a fresh worker."""
    return jnp.zeros(form.dim, jnp.float32)


def momentum_sign(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send ±1 by the sign of m' = β·m + (1 − β)·x; zero counts as positive.

    Bernstein et al. 2018, algorithm 2. The step size is the receiver's.
    """
    kept = knobs["beta"] * memory + (1 - knobs["beta"]) * update
    return jnp.where(kept >= 0, jnp.ones_like(update), -1), kept


def bit_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 1 bit an entry."""
    return Wire(form.dim, 1.0, 0)


def pack_bits(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode one bit an entry."""
    return np.packbits(sent > 0).tobytes()


def unpack_bits(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the bits to ±1."""
    bits = np.unpackbits(np.frombuffer(blob, np.uint8), count=form.dim)
    return np.where(bits > 0, np.float32(1), np.float32(-1))


SIGNS: dict[str, Compressor] = {
    "onebit": Compressor(
        summary="Send the sign of every entry, the mean of the nonnegative and of the negative.",
        paper="Seide et al. 2014",
        knobs={},
        static={},
        init=no_memory,
        apply=two_means,
        wire=means_wire,
        pack=pack_means,
        unpack=unpack_means,
        unbiased=False,
        contractive=True,
        feedback=True,
    ),
    "signum": Compressor(
        summary="Send the sign of every entry of the worker's momentum.",
        paper="Bernstein et al. 2018",
        knobs={"beta": Knob(0.9, 0.0, 1.0, "share of the momentum kept from one update on")},
        static={},
        init=zero_momentum,
        apply=momentum_sign,
        wire=bit_wire,
        pack=pack_bits,
        unpack=unpack_bits,
        unbiased=False,
        contractive=False,
    ),
}
