"""Attacks: what Byzantine workers send instead of their updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core.families import Knob, Static

Knobs = Mapping[str, Any]


class Attack(NamedTuple):
    """An attack and its facts.

    `corrupt(knobs, key, updates [slot, dim], attacker [slot], weights [slot]) -> updates` changes
    the rows where the bool mask `attacker` is set and keeps the others bit by bit. A slot of
    weight 0 is absent. `random`: the attack draws from its key.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    corrupt: Callable[[Knobs, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    random: bool


def sign_flip(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array
) -> jax.Array:
    """Send −scale times the own update (Li et al. 2019)."""
    return jnp.where(attacker[:, None], -knobs["scale"] * updates, updates)


def _root_mean_square(updates: jax.Array) -> jax.Array:
    """Return the root mean square of each row [slot, 1], safe from overflow."""
    peak = jnp.max(jnp.abs(updates), axis=1, keepdims=True)
    peak = jnp.where(peak > 0, peak, 1)
    return peak * jnp.sqrt(jnp.mean(jnp.square(updates / peak), axis=1, keepdims=True))


def gaussian(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array
) -> jax.Array:
    """Send normal noise of scale² times the mean square of the update it replaces.

    Blanchard et al. 2017, section 5, made relative: the attacker's own honest update sets the
    size, so the attack is defined for any number of slots.
    """
    size = knobs["scale"] * _root_mean_square(updates)
    noise = size * jax.random.normal(key, updates.shape, updates.dtype)
    return jnp.where(attacker[:, None], noise, updates)


ATTACKS: dict[str, Attack] = {
    "sign_flip": Attack(
        summary="Send the own update with its sign turned, times a scale.",
        paper="Li et al. 2019",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "size of the flipped update")},
        static={},
        corrupt=sign_flip,
        random=False,
    ),
    "gaussian": Attack(
        summary="Send noise of scale times the root mean square of the own update.",
        paper="Blanchard et al. 2017",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "noise size, in sizes of the own update")},
        static={},
        corrupt=gaussian,
        random=True,
    ),
}
