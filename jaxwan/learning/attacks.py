"""Attacks: what Byzantine workers send instead of their updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import masked_mean

Knobs = Mapping[str, Any]
Aggregate = Callable[[jax.Array], jax.Array]


class Attack(NamedTuple):
    """An attack and its facts.

    `corrupt(knobs, key, updates [slot, dim], attacker [slot], weights [slot], aggregate) ->
    updates` changes the rows where the bool mask `attacker` is set and keeps the others bit by bit.
    A slot of weight 0 is absent. `aggregate(updates) -> [dim]` is what the server will do with
    them, for attacks that search against it (`adaptive`). `random`: the attack draws from its key.
    An omniscient attack looks at the present honest updates; where there are none, at the
    attackers' own honest ones. `poison_batch(label, classes) -> label` is what attackers do to
    their data, None where they leave it alone. `finite`: finite updates stay finite.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    corrupt: Callable[
        [Knobs, jax.Array, jax.Array, jax.Array, jax.Array, Aggregate | None], jax.Array
    ]
    random: bool = False
    adaptive: bool = False
    finite: bool = True
    poison_batch: Callable[[jax.Array, int], jax.Array] | None = None


def sign_flip(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send −scale times the own update (Li et al. 2019)."""
    return jnp.where(attacker[:, None], -knobs["scale"] * updates, updates)


def _root_mean_square(updates: jax.Array) -> jax.Array:
    """Return the root mean square of each row [slot, 1], safe from overflow."""
    peak = jnp.max(jnp.abs(updates), axis=1, keepdims=True)
    peak = jnp.where(peak > 0, peak, 1)
    return peak * jnp.sqrt(jnp.mean(jnp.square(updates / peak), axis=1, keepdims=True))


def gaussian(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send normal noise of scale² times the mean square of the update it replaces.

    Blanchard et al. 2017, section 5, made relative: the attacker's own honest update sets the
    size, so the attack is defined for any number of slots.
    """
    size = knobs["scale"] * _root_mean_square(updates)
    noise = size * jax.random.normal(key, updates.shape, updates.dtype)
    return jnp.where(attacker[:, None], noise, updates)


def _observed(attacker: jax.Array, weights: jax.Array) -> jax.Array:
    """Weigh the slots [slot] an omniscient attacker looks at by 1, the others by 0."""
    present = weights > 0
    honest = present & ~attacker
    return jnp.where(jnp.any(honest), honest, present).astype(jnp.float32)


def _moments(updates: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the standard deviation [dim] of the slots of weight 1."""
    mean = masked_mean(updates, seen)
    away = jnp.where(seen[:, None] > 0, jnp.abs(updates - mean[None]), 0)
    peak = jnp.max(away, axis=0)
    share = away / jnp.where(peak > 0, peak, 1)[None]
    return mean, peak * jnp.sqrt(masked_mean(jnp.square(share), seen))


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
    mean, spread = _moments(updates, _observed(attacker, weights))
    return jnp.where(attacker[:, None], (mean - z * spread)[None], updates)


def inner_product(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send −tau times the mean of the honest updates (Xie et al. 2020, equation 2)."""
    mean = masked_mean(updates, _observed(attacker, weights))
    return jnp.where(attacker[:, None], -knobs["tau"] * mean[None], updates)


ATTACKS: dict[str, Attack] = {
    "sign_flip": Attack(
        summary="Send the own update with its sign turned, times a scale.",
        paper="Li et al. 2019",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "size of the flipped update")},
        static={},
        corrupt=sign_flip,
    ),
    "gaussian": Attack(
        summary="Send noise of scale times the root mean square of the own update.",
        paper="Blanchard et al. 2017",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "noise size, in sizes of the own update")},
        static={},
        corrupt=gaussian,
        random=True,
    ),
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
}
