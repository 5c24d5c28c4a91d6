"""Pre-aggregators: what is done to the updates before they are aggregated.

A sender of NaN or infinity counts among the n and stays as broken as it came, for the aggregator
to leave out; a bucket that holds one is broken as a whole.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob
from jaxwan.core.keys import threefry
from jaxwan.core.numerics import ranks, row_norms, sort_small
from jaxwan.learning.aggregators.base import (
    TOLERATED,
    Knobs,
    PreAggregator,
    Statics,
    as_it_is,
    present_count,
    tolerate,
    usable,
    whole,
)
from jaxwan.learning.aggregators.clipping import clip_rows
from jaxwan.learning.aggregators.distance import square_distances

Updates = tuple[jax.Array, jax.Array]


def _mix(shares: jax.Array, rows: jax.Array) -> jax.Array:
    """Multiply [row, slot] with [slot, dim] in full float32."""
    return jnp.matmul(shares, rows, precision=lax.Precision.HIGHEST)


def mix_neighbours(
    static: Statics, knobs: Knobs, key: jax.Array, updates: jax.Array, weights: jax.Array
) -> Updates:
    """Replace each update by the mean of the n − f nearest to it, itself included (NNM).

    Allouah et al. 2023, algorithm 2. Ties go to the lower slot, itself first; at least it itself
    is taken. Weights count only as present or absent.
    """
    heard = usable(updates, weights)
    near = jnp.maximum(present_count(weights) - whole(knobs["f"]), 1)
    oneself = jnp.eye(updates.shape[0], dtype=bool)
    apart = jnp.where(heard[None, :], square_distances(updates, heard), np.inf)
    place = ranks(jnp.where(oneself & heard[None, :], -1.0, apart))
    taken = ((place < near) & heard[None, :]).astype(jnp.float32)
    shares = taken / jnp.maximum(jnp.sum(taken, axis=1, keepdims=True), 1)
    mixed = _mix(shares, jnp.where(heard[:, None], updates, 0))
    return jnp.where(heard[:, None], mixed, updates), weights


def shuffle(key: jax.Array, present: jax.Array) -> jax.Array:
    """Return the places [slot] of the present slots in a random order; absent ones come last.

    The order of the present does not depend on how many absent slots follow them.
    """
    count = present.shape[0]
    words, _ = threefry(
        jax.random.key_data(key), jnp.arange(count, dtype=jnp.uint32), jnp.uint32(0)
    )
    words = (words >> 9).astype(jnp.float32)  # 23 bits, exact; ties to the lower slot
    return ranks(jnp.where(present, words, np.inf)[None])[0]


def bucket(
    static: Statics, knobs: Knobs, key: jax.Array, updates: jax.Array, weights: jax.Array
) -> Updates:
    """Replace the updates by the means of buckets of s, filled in random order.

    Karimireddy et al. 2022, algorithm 1; the last bucket may hold fewer. Means are by weight, and a
    bucket's weight is that of its members together, so the mean over all stays what it was. The
    first ⌈n/s⌉ slots hold the buckets, the others are absent.
    """
    present, slots = weights > 0, updates.shape[0]
    index = shuffle(key, present) // jnp.maximum(whole(knobs["s"]), 1)
    member = (index[None, :] == lax.iota(jnp.int32, slots)[:, None]) & present[None, :]
    total = jnp.sum(jnp.where(member, weights[None, :], 0), axis=1)  # [bucket]
    shares = jnp.where(member, weights[None, :], 0) / jnp.where(total > 0, total, 1)[:, None]
    heard = usable(updates, weights)
    means = _mix(shares, jnp.where(heard[:, None], updates, 0))
    broken = jnp.any(member & ~heard[None, :], axis=1)
    return jnp.where(broken[:, None], np.nan, means), total


def bucket_count(settings: Knobs, slots: int) -> int:
    """Return ⌈n/s⌉: so many buckets n updates fill."""
    return -(-slots // max(round(settings["s"]), 1))


def buckets_against(attackers: int, slots: int) -> dict[str, float]:
    """Return the largest s that leaves more than two buckets per attacker."""
    return {"s": max(1, slots // (2 * attackers + 1))}


def clip_to_radius(
    static: Statics, knobs: Knobs, key: jax.Array, updates: jax.Array, weights: jax.Array
) -> Updates:
    """Scale the updates that are longer than the radius down to it (Sun et al. 2019)."""
    heard = usable(updates, weights)[:, None]
    clipped = clip_rows(jnp.where(heard, updates, 0), jnp.asarray(knobs["radius"], jnp.float32))
    return jnp.where(heard, clipped, updates), weights


def adaptive_clipping(
    static: Statics, knobs: Knobs, key: jax.Array, updates: jax.Array, weights: jax.Array
) -> Updates:
    """Clip the k = ⌊2 f/n (n − f)⌋ longest updates to the norm of the next longest (ARC).

    Allouah et al. 2025 ("Adaptive gradient clipping for robust federated learning"), algorithm 2.
    Weights count only as present or absent.
    """
    heard, count = usable(updates, weights), present_count(weights)
    rows = jnp.where(heard[:, None], updates, 0)
    f = jnp.minimum(whole(knobs["f"]), count)
    k = jnp.minimum(2 * f * (count - f) // jnp.maximum(count, 1), jnp.maximum(count - 1, 0))
    norms = jnp.where(heard, row_norms(rows), np.inf)
    ordered = sort_small(jnp.where(weights > 0, norms, np.inf))
    clipped = clip_rows(rows, ordered[jnp.maximum(count - 1 - k, 0)])
    return jnp.where(heard[:, None], clipped, updates), weights


PRE_AGGREGATORS: dict[str, PreAggregator] = {
    "nnm": PreAggregator(
        summary="Mix each update with its nearest neighbours.",
        paper="Allouah et al. 2023",
        knobs={"f": TOLERATED},
        static={},
        apply=mix_neighbours,
        against=tolerate,
    ),
    "bucketing": PreAggregator(
        summary="Average random buckets of updates.",
        paper="Karimireddy et al. 2022",
        knobs={"s": Knob(2, 1, 1000, "updates in a bucket")},
        static={},
        apply=bucket,
        against=buckets_against,
        leaves=bucket_count,
        random=True,
    ),
    "clipping": PreAggregator(
        summary="Clip the updates to a norm.",
        paper="Sun et al. 2019",
        knobs={"radius": Knob(10.0, 0.0, 1e6, "largest norm", open_low=True)},
        static={},
        apply=clip_to_radius,
        against=as_it_is,
    ),
    "arc": PreAggregator(
        summary="Clip the longest updates to the norm of the next.",
        paper="Allouah et al. 2025",
        knobs={"f": TOLERATED},
        static={},
        apply=adaptive_clipping,
        against=tolerate,
    ),
}
