"""Attacks that look at what the honest send."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import masked_mean
from jaxwan.learning.attacks.base import Aggregate, Attack, Knobs, moments, observed, replace

DIRECTIONS = ("std", "sign", "unit")


def little_z(attacker: jax.Array, weights: jax.Array) -> jax.Array:
    """Return z_max, which leaves just enough honest workers farther from the mean.

    z_max = Φ⁻¹((n − m − s)/(n − m)) with s = ⌊n/2 + 1⌋ − m, for m attackers of n present (Baruch
    et al. 2019, algorithm 3). Too few attackers for z > 0 get 0; a majority, which needs nobody,
    gets 4.75.
    """
    present = weights > 0
    n = jnp.sum(present, dtype=jnp.int32)
    m = jnp.sum(present & attacker, dtype=jnp.int32)
    supporters = n // 2 + 1 - m
    share = (n - m - supporters).astype(jnp.float32) / jnp.maximum(n - m, 1).astype(jnp.float32)
    return jax.scipy.special.ndtri(jnp.clip(share, 0.5, np.float32(1 - 1e-6)))


def little_is_enough(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send mean − z·std of the honest updates, coordinate by coordinate (Baruch et al. 2019).

    z = 0, or none at all, stands for the paper's z_max (`little_z`).
    """
    z = jnp.asarray(knobs.get("z", 0), jnp.float32)
    z = jnp.where(z > 0, z, little_z(attacker, weights))
    mean, spread = moments(updates, observed(attacker, weights))
    return replace(updates, attacker, mean - z * spread)


def inner_product(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send −tau times the mean of the honest updates (Xie et al. 2020)."""
    mean = masked_mean(updates, observed(attacker, weights))
    return replace(updates, attacker, -knobs["tau"] * mean)


def mimic(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Copy one honest worker (Karimireddy et al. 2022): all attackers the same.

    `target` counts the present honest slots from 0, and begins again after the last; so it is one
    worker throughout in rounds that miss nobody. The paper looks, in a warm-up, for the direction
    in which the honest differ most and then keeps to the worker that lies farthest along it. An
    attack has no memory here, so the target is told: try several.
    """
    seen = observed(attacker, weights) > 0
    target = jnp.round(jnp.asarray(knobs["target"], jnp.float32)).astype(jnp.int32)
    target = target % jnp.maximum(jnp.sum(seen, dtype=jnp.int32), 1)
    place = jnp.argmax(seen & (jnp.cumsum(seen, dtype=jnp.int32) == target + 1))
    sent = jnp.where(jnp.any(seen), updates[place], 0)
    return replace(updates, attacker, sent)


def _away(knobs: Knobs, updates: jax.Array, seen: jax.Array) -> tuple[jax.Array, ...]:
    """Return the mean, what each seen row lacks to it, the direction to go, and their unit.

    mean [dim]; gap = (mean − x_i)/unit [slot, dim], zero of the unseen; direction [dim], at most 1.
    Going by γ·unit along the direction changes |mean − x_i|² to |gap + γ·direction|² unit².
    """
    mean, spread = moments(updates, seen)
    gap = jnp.where(seen[:, None] > 0, mean[None] - updates, 0)
    unit = jnp.max(jnp.abs(gap))
    unit = jnp.where(unit > 0, unit, 1)
    kind = knobs.get("direction", DIRECTIONS[0])
    toward = {"std": spread, "sign": jnp.sign(mean), "unit": mean}[kind]
    peak = jnp.max(jnp.abs(toward))
    return mean, gap / unit, -toward / jnp.where(peak > 0, peak, 1), unit


def _square(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=-1)


def _apart(gap: jax.Array, seen: jax.Array) -> jax.Array:
    """Return the squared distances between the seen rows [slot, slot]; zero to the unseen."""
    both = (seen[:, None] > 0) & (seen[None, :] > 0)
    return jnp.where(both, jnp.sum(jnp.square(gap[:, None] - gap[None]), axis=-1), 0)


def min_max(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Go as far from the honest mean as the honest are from one another (Min-Max).

    Send mean + γ·p, p = −std, −sign(mean) or −mean, with the largest γ for which the greatest
    distance to an honest update is at most the greatest between two of them (Shejwalkar and
    Houmansadr 2021). The paper searches for γ; it is the least positive root of
    |mean + γp − x_i|² = D² over all i.
    """
    seen = observed(attacker, weights)
    mean, gap, direction, unit = _away(knobs, updates, seen)
    room = jnp.max(_apart(gap, seen)) - _square(gap)  # [slot]
    slope = jnp.sum(gap * direction[None], axis=1)
    length = _square(direction)
    root = jnp.sqrt(jnp.square(slope) + length * jnp.maximum(room, 0))
    uphill = jnp.maximum(room, 0) / jnp.where(slope + root > 0, slope + root, 1)
    steps = jnp.where(slope > 0, uphill, (root - slope) / jnp.where(length > 0, length, 1))
    gamma = jnp.min(jnp.where(seen > 0, steps, np.inf))
    gamma = jnp.where((length > 0) & jnp.any(seen > 0), gamma, 0)
    return replace(updates, attacker, mean + gamma * unit * direction)


def min_sum(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Go as far from the honest mean as the sum of squared distances allows (Min-Sum).

    Send mean + γ·p, p = −std, −sign(mean) or −mean, with the largest γ for which the sum of squared
    distances to the honest is at most the greatest such sum of an honest one (Shejwalkar and
    Houmansadr 2021). The paper searches for γ; as the distances to the mean sum to
    zero, n γ² |p|² = max_i Σ_j |x_i − x_j|² − Σ_j |mean − x_j|².
    """
    seen = observed(attacker, weights)
    mean, gap, direction, unit = _away(knobs, updates, seen)
    room = jnp.max(jnp.sum(_apart(gap, seen), axis=1)) - jnp.sum(_square(gap))
    cost = jnp.sum(seen) * _square(direction)
    gamma = jnp.where(cost > 0, jnp.sqrt(jnp.maximum(room, 0) / jnp.where(cost > 0, cost, 1)), 0)
    return replace(updates, attacker, mean + gamma * unit * direction)


DIRECTION = Static("std", "where to go: against the std, sign or mean of the honest", DIRECTIONS)

OMNISCIENT: dict[str, Attack] = {
    "alie": Attack(
        summary="Hide within the spread: send the honest mean less z standard deviations.",
        paper="Baruch et al. 2019",
        knobs={"z": Knob(0.0, 0.0, 1e3, "standard deviations; 0 = as many as go unnoticed")},
        static={},
        corrupt=little_is_enough,
    ),
    "ipm": Attack(
        summary="Send the honest mean with its sign turned, times tau.",
        paper="Xie et al. 2020",
        knobs={"tau": Knob(0.5, 0.0, 1e6, "size of the turned mean")},
        static={},
        corrupt=inner_product,
    ),
    "mimic": Attack(
        summary="Copy one honest worker, so that it counts for many.",
        paper="Karimireddy et al. 2022",
        knobs={"target": Knob(0, 0, 1000, "which honest worker, counted from 0")},
        static={},
        corrupt=mimic,
    ),
    "min_max": Attack(
        summary="Stay within the greatest distance between two honest updates.",
        paper="Shejwalkar and Houmansadr 2021",
        knobs={},
        static={"direction": DIRECTION},
        corrupt=min_max,
    ),
    "min_sum": Attack(
        summary="Stay within the greatest sum of squared distances of an honest update.",
        paper="Shejwalkar and Houmansadr 2021",
        knobs={},
        static={"direction": DIRECTION},
        corrupt=min_sum,
    ),
}
