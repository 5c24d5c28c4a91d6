"""Exact selection and small sorts that stay fast under `vmap` on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.keys import words

STACK_LIMIT = 16
ROWS_LIMIT = 64
LANES = 64
INT16_MAX = 32767
Carry = tuple[jax.Array, jax.Array, jax.Array]


def _lanes(x: jax.Array) -> jax.Array:
    """Fold an int32 [dim] into [row, lane], short enough to count a lane in int16; pad is −1."""
    rows = -(-x.shape[0] // LANES)
    lanes = LANES * -(-rows // INT16_MAX)
    return jnp.pad(x, (0, -x.shape[0] % lanes), constant_values=-1).reshape(-1, lanes)


def _search(
    half: jax.Array, k: jax.Array, found: jax.Array, top: int, offset: int
) -> tuple[jax.Array, jax.Array]:
    """Return the largest t with at least k of `half` ≥ t, or any t with exactly k, and its count.

    `half` [row, lane] holds int16 numbers less `offset`; `found` is the count at t = 0.
    """

    def unsettled(carry: Carry) -> jax.Array:
        bit, _, count = carry
        return (bit > 0) & (count != k)

    def settle(carry: Carry) -> Carry:
        bit, low, count = carry
        reached = half >= (low + bit - offset).astype(jnp.int16)
        hits = jnp.sum(jnp.sum(reached, axis=0, dtype=jnp.int16), dtype=jnp.int32)
        enough = hits >= k
        return bit >> 1, jnp.where(enough, low + bit, low), jnp.where(enough, hits, count)

    _, low, count = lax.while_loop(unsettled, settle, (jnp.int32(top), jnp.int32(0), found))
    return low, count


def _threshold(bits: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return t and how many of nonnegative int32 `bits` [dim] are ≥ t.

    Either exactly k are, or t is the k-th largest itself. Halves of 16 bits are searched in turn,
    because int16 comparisons and counts are twice as fast as int32 ones.
    """
    folded = _lanes(bits)
    upper = folded >> 16
    high, count = _search(upper.astype(jnp.int16), k, jnp.int32(bits.shape[0]), 1 << 14, 0)
    lower = jnp.where(upper > high, INT16_MAX, (folded & 0xFFFF) - (INT16_MAX + 1))
    lower = jnp.where(upper < high, -INT16_MAX - 1, lower).astype(jnp.int16)
    low, count = _search(lower, k, count, 1 << 15, INT16_MAX + 1)
    return (high << 16) | low, count


def kth_largest(x: jax.Array, k: jax.Array | int) -> jax.Array:
    """Return the k-th largest entry, exactly; `k` may be traced and batched.

    `x` is a nonnegative float32 [dim] and 1 ≤ k ≤ dim. NaN counts as larger than infinity.
    """
    bits = lax.bitcast_convert_type(x, jnp.int32)
    threshold, _ = _threshold(bits, jnp.asarray(k, jnp.int32))
    least = jnp.min(jnp.where(bits >= threshold, bits, jnp.iinfo(jnp.int32).max))
    return lax.bitcast_convert_type(least, x.dtype)


def _tie_end(tied: jax.Array, excess: jax.Array) -> jax.Array:
    """Return the least index from which on at most `excess` of `tied` [dim] are set.

    No excess at all returns dim without a pass over the data.
    """
    dim = tied.shape[0]
    place = lax.iota(jnp.int32, dim)

    def unsettled(span: tuple[jax.Array, jax.Array]) -> jax.Array:
        return span[0] < span[1]

    def settle(span: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (span[0] + span[1]) // 2
        few = jnp.sum(tied & (place >= middle), dtype=jnp.int32) <= excess
        return jnp.where(few, span[0], middle + 1), jnp.where(few, middle, span[1])

    start = jnp.where(excess > 0, jnp.int32(0), jnp.int32(dim))
    return lax.while_loop(unsettled, settle, (start, jnp.int32(dim)))[0]


def largest_bits_mask(bits: jax.Array, k: jax.Array | int) -> jax.Array:
    """Mark exactly the k largest of nonnegative int32 `bits` [dim], ties by lowest index.

    1 ≤ k ≤ dim may be traced and batched.
    """
    wanted = jnp.asarray(k, jnp.int32)
    threshold, count = _threshold(bits, wanted)
    end = _tie_end(bits == threshold, count - wanted)
    before = lax.iota(jnp.int32, bits.shape[0]) < end
    return (bits > threshold) | ((bits == threshold) & before)


def keep_largest_mask(x_abs: jax.Array, k: jax.Array | int) -> jax.Array:
    """Mark exactly the k largest entries of a nonnegative float32 [dim], ties by lowest index.

    1 ≤ k ≤ dim may be traced and batched. NaN counts as larger than infinity.
    """
    return largest_bits_mask(lax.bitcast_convert_type(x_abs, jnp.int32), k)


def random_mask(key: jax.Array, dim: int, k: jax.Array | int) -> jax.Array:
    """Mark k of `dim` entries, each set of k equally likely; `key [2]` decides which.

    1 ≤ k ≤ dim may be traced and batched. The k largest of `dim` 31-bit words win; words tie at
    the threshold with a probability below dim/2**31, and the lower index wins then.
    """
    return largest_bits_mask((words(key, dim) >> 1).astype(jnp.int32), k)


def masked_mean(x: jax.Array, weights: jax.Array, axis: int = 0) -> jax.Array:
    """Average `x` along `axis` by nonnegative `weights` [x.shape[axis]]; zero weight is absent.

    Absent entries may hold NaN. No weight at all gives zeros.
    """
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    share = jnp.expand_dims(share, [i for i in range(x.ndim) if i != axis % x.ndim])
    return jnp.sum(jnp.where(share > 0, x, 0) * share, axis=axis)


def row_norms(x: jax.Array) -> jax.Array:
    """Return the Euclidean norms of the rows of `x` [row, dim], safe from overflow."""
    peak = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    peak = jnp.where(peak > 0, peak, 1)
    return peak[:, 0] * jnp.sqrt(jnp.sum(jnp.square(x / peak), axis=1))


def ranks(x: jax.Array) -> jax.Array:
    """Return the places [row, entry] in ascending order along each row, ties to the lower index.

    `x` [row, entry] holds no NaN.
    """
    size = x.shape[1]
    if size > ROWS_LIMIT:
        return jnp.argsort(jnp.argsort(x, axis=1, stable=True), axis=1).astype(jnp.int32)
    mine, theirs = x[:, :, None], x[:, None, :]
    tied = (theirs == mine) & np.tri(size, k=-1, dtype=bool)[None]
    return jnp.sum((theirs < mine) | tied, axis=2, dtype=jnp.int32)


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
    """Sort a few equally shaped arrays elementwise, smallest first; NaN sorts as +infinity."""
    rows = [jnp.where(jnp.isnan(row), np.inf, row) for row in rows]
    for low, high in exchanges(len(rows)):
        smaller, larger = lax.min(rows[low], rows[high]), lax.max(rows[low], rows[high])
        rows[low], rows[high] = smaller, larger
    return rows


def _sort(x: jax.Array) -> jax.Array:
    """Sort along the leading axis by `jnp.sort`; NaN sorts as +infinity."""
    return jnp.sort(jnp.where(jnp.isnan(x), np.inf, x), axis=0)


def sorted_rows(x: jax.Array) -> list[jax.Array]:
    """Return the rows of `x` [row, ...] in elementwise order; NaN sorts as +infinity.

    A reduction over the rows fuses with the network, so 64 rows still pay; put back together
    they would not (`sort_small`).
    """
    return sort_rows(list(x)) if x.shape[0] <= ROWS_LIMIT else list(_sort(x))


def sort_small(x: jax.Array, axis: int = 0) -> jax.Array:
    """Sort along `axis`, smallest first: a network up to 16 entries, `jnp.sort` above.

    NaN sorts as +infinity.
    """
    rows = jnp.moveaxis(x, axis, 0)
    if rows.shape[0] > STACK_LIMIT:
        return jnp.moveaxis(_sort(rows), 0, axis)
    return jnp.stack(sort_rows(list(rows)), axis=axis)
