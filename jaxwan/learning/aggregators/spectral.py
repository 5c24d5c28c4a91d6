"""Aggregators that look along the direction in which the updates differ most.

A sender of NaN or infinity is present, so it counts among the n, but is never chosen.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core import keys
from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import masked_mean, random_mask, ranks
from jaxwan.learning.aggregators.base import (
    TOLERATED,
    Aggregator,
    Knobs,
    Statics,
    needs_majority,
    present_count,
    stateless,
    tolerate,
    usable,
    whole,
)

SQUARINGS = 12
COUNT_SLACK = 1e-4
SHARE_SLACK = 1e-4  # what rounding may leave of a share that is gone
LEAST = np.finfo(np.float32).tiny
Filter = tuple[jax.Array, jax.Array, jax.Array]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply in full float32, also where the hardware would rather not."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _top(gram: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the largest eigenvalue of a positive semidefinite [slot, slot] and its vector.

    2¹² steps of the power method, by squaring the matrix twelve times: on [slot, slot] that is
    cheaper than a pass over the updates. Its largest column starts; of zeros the vector is zero.
    """

    def square(_: jax.Array, power: jax.Array) -> jax.Array:
        power = power / jnp.maximum(jnp.max(jnp.abs(power)), LEAST)
        return _product(power, power)

    power = lax.fori_loop(0, SQUARINGS, square, gram)
    vector = power[:, jnp.argmax(jnp.diagonal(power))]
    vector = vector / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(vector))), LEAST)
    vector = _product(gram, vector)
    value = jnp.sqrt(jnp.sum(jnp.square(vector)))
    return value, vector / jnp.maximum(value, LEAST)


def _spread(rows: jax.Array, mean: jax.Array, heard: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what heard rows differ from the mean [slot, dim], in units of the largest entry."""
    away = jnp.where(heard[:, None], rows - mean[None], 0)
    peak = jnp.max(jnp.abs(away))
    peak = jnp.where(peak > 0, peak, 1)
    return away / peak, peak


def agnostic_filter(knobs: Knobs, updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the mean of least top variance while outliers lose their shares (CAF).

    Allouah et al. 2025 ("Towards trustworthy federated learning with untrusted participants"),
    algorithm 2. Shares c_i start at 1; while their sum is above n − 2f, v being the top eigenvector
    of the covariance weighted by c about the mean μ, and τ_i = ⟨v, x_i − μ⟩², c_i falls to
    c_i (1 − τ_i / max τ), the maximum over those with a share left; one below 1e-4 is gone. Of all
    μ the one whose top eigenvalue was least is returned, so without an outlier it is the mean.
    Weights count only as present or absent.
    """
    heard = usable(updates, weights)
    rows = jnp.where(heard[:, None], updates, 0)
    least = (present_count(weights) - 2 * whole(knobs["f"])).astype(jnp.float32)

    def unsettled(state: Filter) -> jax.Array:
        return jnp.sum(state[0]) > jnp.maximum(least, 0) + SHARE_SLACK

    def step(state: Filter) -> Filter:
        share, width, best = state
        mean = masked_mean(rows, share)
        away, peak = _spread(rows, mean, share > 0)
        root = jnp.sqrt(share / jnp.sum(share))
        half = away * root[:, None]
        gram = _product(half, half.T)
        value, vector = _top(gram)
        # a row of `gram` is as precise as its root is small, an entry of `vector` is not
        along = _product(gram, vector) / jnp.where(root > 0, root, 1)
        along = jnp.abs(jnp.where(share > 0, along, 0))
        farthest = jnp.max(along)
        lost = jnp.where(farthest > 0, along / jnp.where(farthest > 0, farthest, 1), 1)
        here = peak * jnp.sqrt(value)
        best = jnp.where(here < width, mean, best)
        share = share * (1 - jnp.square(lost))
        return jnp.where(share > SHARE_SLACK, share, 0), jnp.minimum(here, width), best

    share = heard.astype(jnp.float32)
    start = share, jnp.asarray(np.inf, jnp.float32), masked_mean(rows, share)
    return lax.while_loop(unsettled, step, start)[2]


def filters_nobody(knobs: Knobs, slots: int) -> bool:
    """Return whether the filter stops at the first mean for sure."""
    return round(knobs["f"]) == 0 or slots <= 2


def removed(knobs: Knobs) -> Any:
    """Return ⌊c·f⌋, how many updates one round removes."""
    c = jnp.asarray(knobs["c"], jnp.float32)
    return jnp.floor(c * whole(knobs["f"]).astype(jnp.float32) + COUNT_SLACK).astype(jnp.int32)


def divide_and_conquer(
    static: Statics, knobs: Knobs, memory: Any, key: jax.Array, updates: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, Any]:  # fmt: skip
    """Average what is left when the ⌊c·f⌋ farthest along the top direction go (DnC).

    Shejwalkar and Houmansadr 2021, algorithm 2: every round looks at a random sample of the
    coordinates, at ⟨x_i − mean, v⟩² along the top right singular vector v of the centred updates;
    those that survive every round are averaged, and where there are none, those that survive most.
    Ties go to the lower slot. Weights count only as present or absent.
    """
    heard, count = usable(updates, weights), present_count(weights)
    rows = jnp.where(heard[:, None], updates, 0)
    away, _ = _spread(rows, masked_mean(rows, heard.astype(jnp.float32)), heard)
    stay = jnp.maximum(count - removed(knobs), 1)
    dim, sample = updates.shape[1], static["sample"]
    luck = jax.random.key_data(key)

    def survive(turn: jax.Array | int, votes: jax.Array) -> jax.Array:
        seen = away
        if sample < dim:
            chosen = random_mask(keys.address(luck, turn), dim, sample)
            seen = jnp.where(chosen[None, :], away, 0)
        gram = _product(seen, seen.T)
        score = jnp.square(_product(gram, _top(gram)[1]))
        place = ranks(jnp.where(heard, score, np.inf)[None])[0]
        return votes + ((place < stay) & heard).astype(jnp.int32)

    votes = jnp.zeros(updates.shape[0], jnp.int32)
    votes = lax.fori_loop(0, static["iterations"] if sample < dim else 1, survive, votes)
    kept = (votes > 0) & (votes == jnp.max(votes))
    return masked_mean(rows, kept.astype(jnp.float32)), memory


def removes_nobody(knobs: Knobs, slots: int) -> bool:
    """Return whether nobody is removed, or there is a single slot."""
    return int(knobs["c"] * round(knobs["f"]) + COUNT_SLACK) == 0 or slots <= 1


SPECTRAL: dict[str, Aggregator] = {
    "caf": Aggregator(
        summary="Take shares from the updates that stand out until the variance is least.",
        paper="Allouah et al. 2025",
        knobs={"f": TOLERATED},
        static={},
        apply=stateless(agnostic_filter),
        needs=needs_majority,
        is_mean=filters_nobody,
        against=tolerate,
        robust=True,
    ),
    "dnc": Aggregator(
        summary="Remove the updates that stand out along the top singular direction.",
        paper="Shejwalkar and Houmansadr 2021",
        knobs={"f": TOLERATED, "c": Knob(1.0, 0.0, 10.0, "updates removed per attacker")},
        static={
            "iterations": Static(3, "random samples of the coordinates", low=1, high=100),
            "sample": Static(10_000, "coordinates in a sample", low=1),
        },
        apply=divide_and_conquer,
        needs=needs_majority,
        is_mean=removes_nobody,
        against=tolerate,
        robust=True,
    ),
}
