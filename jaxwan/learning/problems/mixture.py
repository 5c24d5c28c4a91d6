"""Gaussian-mixture images: classification data without end, whose best loss is known.

Each class is a mixture of a few unit-variance Gaussians around fixed centres, so the posterior is
exact and its cross-entropy on the held-out set is a floor for every model. Every gradient draws
fresh samples: nothing is memorised.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.learning.problems.problem import Task

MODES = 3
HELD_OUT = 512


class Batch(NamedTuple):
    """Samples and their classes."""

    x: jax.Array  # [sample, feature]
    label: jax.Array  # int32 [sample]


def centres(features: int, classes: int, separation: float) -> jax.Array:
    """Return the fixed centres `[class, mode, feature]`, on average `separation` from zero."""
    key = keys.stream(keys.run_key(0), "mixture.centres")
    flat = keys.normals(key, classes * MODES * features)
    scale = separation / features**0.5
    return scale * flat.reshape(classes, MODES, features)


def sample(middle: jax.Array, key: jax.Array, count: int) -> Batch:
    """Draw `count` samples addressed by `key [2]` from centres `[class, mode, feature]`."""
    classes, modes, features = middle.shape
    component = keys.words(keys.address(key, 0), count) % jnp.uint32(classes * modes)
    noise = keys.normals(keys.address(key, 1), count * features).reshape(count, features)
    component = component.astype(jnp.int32)
    flat = middle.reshape(classes * modes, features)
    return Batch(flat[component] + noise, component // modes)


def log_posterior(middle: jax.Array, x: jax.Array) -> jax.Array:
    """Return the exact log-probability of each class `[sample, class]`."""
    classes, modes, features = middle.shape
    flat = middle.reshape(classes * modes, features)
    score = x @ flat.T - 0.5 * jnp.sum(flat**2, axis=1)[None, :]
    per_class = jax.nn.logsumexp(score.reshape(-1, classes, modes), axis=2)
    return jax.nn.log_softmax(per_class, axis=1)


def make_task(features: int, classes: int, separation: float) -> dict[str, jax.Array]:
    """Return the centres, a held-out set, and the Bayes cross-entropy on it."""
    middle = centres(features, classes, separation)
    held_out = sample(middle, keys.stream(keys.run_key(0), "mixture.held_out"), HELD_OUT)
    floor, _ = score(log_posterior(middle, held_out.x), held_out.label)
    return {"centres": middle, "x": held_out.x, "label": held_out.label, "floor": floor}


def score(log_probability: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the cross-entropy (nats) and the accuracy of predictions `[sample, class]`."""
    picked = jnp.take_along_axis(log_probability, label[:, None], axis=1)
    right = jnp.argmax(log_probability, axis=1) == label
    return -jnp.mean(picked), jnp.mean(right.astype(jnp.float32))


def floor_of(task: Task) -> jax.Array:
    """Return the Bayes cross-entropy on the held-out set."""
    return task["floor"]
