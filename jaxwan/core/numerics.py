"""Exact selection and small sorts that stay fast under `vmap` on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NETWORK_LIMIT = 16


def _kth_bits(bits: jax.Array, k: jax.Array | int) -> jax.Array:
    """Return the k-th largest of nonnegative int32 `bits` [dim], one bit a pass from the top."""

    def settle(step: jax.Array, low: jax.Array) -> jax.Array:
        trial = low | jnp.left_shift(jnp.int32(1), jnp.int32(30) - step)
        return jnp.where(jnp.sum(bits >= trial, dtype=jnp.int32) >= k, trial, low)

    return lax.fori_loop(0, 31, settle, jnp.int32(0))


def kth_largest(x: jax.Array, k: jax.Array | int) -> jax.Array:
    """Return the k-th largest entry, exactly; `k` may be traced and batched.

    `x` is a nonnegative float32 [dim] and 1 ≤ k ≤ dim. NaN counts as larger than infinity.
    """
    return lax.bitcast_convert_type(_kth_bits(lax.bitcast_convert_type(x, jnp.int32), k), x.dtype)


def keep_largest_mask(x_abs: jax.Array, k: jax.Array | int) -> jax.Array:
    """Mark exactly the k largest entries of a nonnegative float32 [dim], ties by lowest index."""
    bits = lax.bitcast_convert_type(x_abs, jnp.int32)
    threshold = _kth_bits(bits, k)
    above, tied = bits > threshold, bits == threshold
    room = k - jnp.sum(above, dtype=jnp.int32)
    return above | (tied & (jnp.cumsum(tied, dtype=jnp.int32) <= room))


def masked_mean(x: jax.Array, weights: jax.Array, axis: int = 0) -> jax.Array:
    """Average `x` along `axis` by nonnegative `weights` [x.shape[axis]]; zero weight is absent.

    Absent entries may hold NaN. No weight at all gives zeros.
    """
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    share = jnp.expand_dims(share, [i for i in range(x.ndim) if i != axis % x.ndim])
    return jnp.sum(jnp.where(share > 0, x, 0) * share, axis=axis)


def exchanges(n: int) -> list[tuple[int, int]]:
    """Return the compare-exchange pairs of Batcher's odd–even merge sort of n rows.

    Batcher 1968; the arbitrary-n form of Knuth, TAOCP 3, algorithm 5.2.2M.
    """
    pairs, p = [], 1 << max(n - 1, 0).bit_length() >> 1
    top = p
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


def sort_rows(rows: list[jax.Array]) -> list[jax.Array]:
    """Sort up to 16 equally shaped arrays elementwise, smallest first; NaN sorts as +infinity."""
    rows = [jnp.where(jnp.isnan(row), np.inf, row) for row in rows]
    for low, high in exchanges(len(rows)):
        smaller, larger = jnp.minimum(rows[low], rows[high]), jnp.maximum(rows[low], rows[high])
        rows[low], rows[high] = smaller, larger
    return rows


def sorted_rows(x: jax.Array) -> list[jax.Array]:
    """Return the rows of `x` [row, ...] in elementwise order; NaN sorts as +infinity."""
    if x.shape[0] <= NETWORK_LIMIT:
        return sort_rows(list(x))
    return list(jnp.sort(jnp.where(jnp.isnan(x), np.inf, x), axis=0))


def sort_small(x: jax.Array, axis: int = 0) -> jax.Array:
    """Sort along `axis`, smallest first: a network up to 16 entries, `jnp.sort` above.

    NaN sorts as +infinity.
    """
    return jnp.stack(sorted_rows(jnp.moveaxis(x, axis, 0)), axis=axis)
