"""Compressors that send some entries and leave the rest out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core import keys
from jaxwan.core.families import Knob
from jaxwan.core.numerics import keep_largest_mask, random_mask
from jaxwan.learning.compressors.base import (
    Compressor,
    Form,
    Knobs,
    Wire,
    no_memory,
)


def topk_count(ratio: Any, dim: int) -> Any:
    """Return how many of `dim` entries a ratio keeps: at least 1, ties to even, in float32.

    A traced ratio gives an int32 array, a plain number the same value as a Python int.
    """
    if isinstance(ratio, jax.Array):
        kept = jnp.round(ratio.astype(jnp.float32) * np.float32(dim)).astype(jnp.int32)
        return jnp.clip(kept, 1, dim)
    return min(max(int(np.rint(np.float32(ratio) * np.float32(dim))), 1), dim)


def keep_largest(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Keep the k largest magnitudes, ties by lowest index (Aji and Heafield 2017)."""
    count = topk_count(knobs["ratio"], update.shape[0])
    return jnp.where(keep_largest_mask(jnp.abs(update), count), update, 0), memory


def sparse_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge k float32 values and the cheaper of k 32-bit indices and one bit an entry."""
    dim = form.dim
    count = topk_count(float(knobs["ratio"]), dim)
    return Wire(count, 32.0, min(32 * count, dim))


def pack_sparse(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the k kept values after their indices, or after a bitmap where that is shorter."""
    dim = form.dim
    count = topk_count(float(knobs["ratio"]), dim)
    kept = np.sort(np.argsort(-np.abs(sent), kind="stable")[:count])
    values = sent[kept].astype("<f4").tobytes()
    if 32 * count <= dim:
        return kept.astype("<u4").tobytes() + values
    bitmap = np.zeros(dim, bool)
    bitmap[kept] = True
    return np.packbits(bitmap).tobytes() + values


def unpack_sparse(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the kept values into a dense [dim]."""
    dim = form.dim
    count = topk_count(float(knobs["ratio"]), dim)
    if 32 * count <= dim:
        kept = np.frombuffer(blob, "<u4", count).astype(np.int64)
    else:
        bitmap = np.frombuffer(blob, np.uint8, -(-dim // 8))
        kept = np.flatnonzero(np.unpackbits(bitmap, count=form.dim))
    dense = np.zeros(dim, np.float32)
    dense[kept] = np.frombuffer(blob, "<f4", count, offset=len(blob) - 4 * count)
    return dense


def random_seed(key: jax.Array) -> jax.Array:
    """Return the uint32 that a rand-k message starts with."""
    return jax.random.bits(key)


def keep_random(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Keep k entries chosen at random, times d/k (Wangni et al. 2018; Stich et al. 2018).

    Unbiased, with E|C(x) − x|² = (d/k − 1)|x|². The chosen set follows from one 32-bit seed.
    """
    dim = update.shape[0]
    count = topk_count(knobs["ratio"], dim)
    kept = random_mask(keys.run_key(random_seed(key)), dim, count)
    return jnp.where(kept, update * (dim / count), 0), memory


def seeded_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge k float32 values and the 32-bit seed that tells which they are."""
    return Wire(topk_count(float(knobs["ratio"]), form.dim), 32.0, 32)


@lru_cache(maxsize=4)
def _words(seed: int, dim: int) -> np.ndarray:
    """Return the uint32 words that a seed ranks the positions by."""
    return np.asarray(keys.words(keys.run_key(seed), dim))


def _chosen(seed: int, knobs: Knobs, dim: int) -> np.ndarray:
    """Return the sorted positions that a seed chooses."""
    rank = np.argsort(-(_words(seed, dim) >> 1).astype(np.int64), kind="stable")
    return np.sort(rank[: topk_count(float(knobs["ratio"]), dim)])


def pack_seeded(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the seed, then the k values in order of their positions."""
    seed = np.asarray(random_seed(key))
    return seed.astype("<u4").tobytes() + sent[_chosen(int(seed), knobs, form.dim)].tobytes()


def unpack_seeded(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Draw the positions again from the seed, and fill the values in."""
    dense = np.zeros(form.dim, np.float32)
    seed = int(np.frombuffer(blob, "<u4", 1)[0])
    dense[_chosen(seed, knobs, form.dim)] = np.frombuffer(blob, "<f4", offset=4)
    return dense


SPARSE: dict[str, Compressor] = {
    "topk": Compressor(
        summary="Send the k entries of largest magnitude and their positions.",
        paper="Aji and Heafield 2017; Stich et al. 2018",
        knobs={"ratio": Knob(0.01, 0.0, 1.0, "fraction of entries kept", open_low=True)},
        static={},
        init=no_memory,
        apply=keep_largest,
        wire=sparse_wire,
        pack=pack_sparse,
        unpack=unpack_sparse,
        unbiased=False,
        contractive=True,
        sparse=True,
        feedback=True,
    ),
    "randk": Compressor(
        summary="Send k random entries, scaled to be unbiased, and the seed of the choice.",
        paper="Wangni et al. 2018; Stich et al. 2018",
        knobs={"ratio": Knob(0.01, 0.0, 1.0, "fraction of entries kept", open_low=True)},
        static={},
        init=no_memory,
        apply=keep_random,
        wire=seeded_wire,
        pack=pack_seeded,
        unpack=unpack_seeded,
        unbiased=True,
        contractive=False,
        sparse=True,
    ),
}
