"""Attacks that look at no one else's update."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Knob
from jaxwan.learning.attacks.base import Aggregate, Attack, Knobs


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

    Blanchard et al. 2017, made relative: the attacker's own honest update sets the
    size, so the attack is defined for any number of slots.
    """
    size = knobs["scale"] * _root_mean_square(updates)
    noise = size * jax.random.normal(key, updates.shape, updates.dtype)
    return jnp.where(attacker[:, None], noise, updates)


def noise(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send values uniform between −scale and scale, each attacker its own.

    Unlike `gaussian` the size is absolute: it does not shrink with the updates.
    """
    sent = knobs["scale"] * jax.random.uniform(key, updates.shape, updates.dtype, -1, 1)
    return jnp.where(attacker[:, None], sent, updates)


def silence(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send zeros: present, and of no use."""
    return jnp.where(attacker[:, None], 0, updates)


def not_a_number(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send NaN in every coordinate."""
    return jnp.where(attacker[:, None], np.nan, updates)


def infinity(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send +infinity in every coordinate."""
    return jnp.where(attacker[:, None], np.inf, updates)


def honest_about_bad_data(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send the own update as it is: the harm is in the data it was computed from."""
    return updates


def flip_labels(label: jax.Array, classes: int) -> jax.Array:
    """Return classes − 1 − label (Fang et al. 2020; Tolpegin et al. 2020)."""
    return classes - 1 - label


SIMPLE: dict[str, Attack] = {
    "sign_flip": Attack(
        summary="Send the own update with its sign turned, times a scale.",
        paper="Li et al. 2019",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "size of the flipped update")},
        static={},
        corrupt=sign_flip,
    ),
    "zero": Attack(
        summary="Send zeros.",
        paper="Li et al. 2019",
        knobs={},
        static={},
        corrupt=silence,
    ),
    "gaussian": Attack(
        summary="Send noise of scale times the root mean square of the own update.",
        paper="Blanchard et al. 2017",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "noise size, in sizes of the own update")},
        static={},
        corrupt=gaussian,
        random=True,
    ),
    "random": Attack(
        summary="Send values uniform between -scale and scale, whatever the updates' size.",
        paper="Xie et al. 2018",
        knobs={"scale": Knob(1.0, 0.0, 1e6, "largest value sent")},
        static={},
        corrupt=noise,
        random=True,
    ),
    "nan": Attack(
        summary="Send NaN.",
        paper="Blanchard et al. 2017",
        knobs={},
        static={},
        corrupt=not_a_number,
        finite=False,
    ),
    "inf": Attack(
        summary="Send infinity.",
        paper="Blanchard et al. 2017",
        knobs={},
        static={},
        corrupt=infinity,
        finite=False,
    ),
    "label_flip": Attack(
        summary="Train on labels counted from the other end, and send what comes of it.",
        paper="Tolpegin et al. 2020",
        knobs={},
        static={},
        corrupt=honest_about_bad_data,
        poison_batch=flip_labels,
    ),
}
