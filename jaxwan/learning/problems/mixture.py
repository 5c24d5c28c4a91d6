"""Gaussian-mixture images: classification data without end, whose best loss is known.

Each class is a mixture of a few unit-variance Gaussians around fixed centres, so the posterior is
exact and its cross-entropy on the held-out set is a floor for every model. Every gradient draws
fresh samples: nothing is memorised. A centre is a low-frequency image, given by its few cosine
coefficients; a feature vector is an image of one pixel with many channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core import keys
from jaxwan.core.families import Static
from jaxwan.core.numerics import masked_mean
from jaxwan.learning.problems import skew
from jaxwan.learning.problems.problem import Knobs, Relabel, Scores, Statics, Task

BLOCK = 32  # held-out samples looked at together, so that they stay in the cache
GRID = 4  # cosines along one edge of an image
KNOBS = {"skew": skew.SKEW}
STATIC = {
    "batch": Static(32, "samples in one gradient", low=1, high=65536),
    "modes": Static(3, "Gaussians in each class", low=1, high=1024),
    "held_out": Static(256, "held-out samples", low=1, high=65536),
    "separation": Static(4.0, "mean distance of the class centres from zero", low=0.0),
}
SMALLER = {"batch": 16, "modes": 1, "held_out": 128, "separation": 5.0}
IMAGE_STATIC = {
    name: fact._replace(default=SMALLER.get(name, fact.default)) for name, fact in STATIC.items()
}
Logits = Callable[[Statics, jax.Array, jax.Array], jax.Array]


class Space(NamedTuple):
    """Square images of `side` pixels with their channels; centres span `grid` x `grid` cosines."""

    side: int
    channels: int
    grid: int

    @property
    def features(self) -> int:
        """Return the numbers in one image."""
        return self.side**2 * self.channels


def images(side: int, channels: int) -> Space:
    """Return the space of images with smooth centres."""
    return Space(side, channels, min(GRID, side))


class Batch(NamedTuple):
    """Samples and their classes."""

    x: jax.Array  # [sample, feature]
    label: jax.Array  # int32 [sample]


def cosines(side: int, grid: int) -> np.ndarray:
    """Return the first `grid` orthonormal cosines `[side, grid]` (Ahmed et al. 1974, DCT-II)."""
    angle = np.pi * (np.arange(side)[:, None] + 0.5) * np.arange(grid)[None, :] / side
    weight = np.where(np.arange(grid) == 0, 1.0, 2.0) / side
    return (np.cos(angle) * np.sqrt(weight)[None, :]).astype(np.float32)


def expand(space: Space, code: jax.Array) -> jax.Array:
    """Return the images `[sample, feature]` of coefficients `[sample, code]`."""
    if space.side == 1:
        return code
    basis = cosines(space.side, space.grid)
    folded = code.reshape(-1, space.grid, space.grid, space.channels)
    return jnp.einsum("nijc,hi,wj->nhwc", folded, basis, basis).reshape(-1, space.features)


def project(space: Space, x: jax.Array) -> jax.Array:
    """Return the coefficients `[sample, code]` of images `[sample, feature]`."""
    if space.side == 1:
        return x
    basis = cosines(space.side, space.grid)
    images = x.reshape(-1, space.side, space.side, space.channels)
    folded = jnp.einsum("nhwc,hi,wj->nijc", images, basis, basis)
    return folded.reshape(x.shape[0], -1)


def centres(space: Space, classes: int, static: Statics) -> jax.Array:
    """Return the fixed centres `[class, mode, code]`, on average `separation` from zero."""
    length, modes = space.grid**2 * space.channels, static["modes"]
    key = keys.stream(keys.run_key(0), "mixture.centres")
    flat = keys.normals(key, classes * modes * length)
    return static["separation"] / length**0.5 * flat.reshape(classes, modes, length)


def sample(
    space: Space, middle: jax.Array, weights: jax.Array, key: jax.Array, count: int
) -> Batch:
    """Draw samples below `key [2]` from centres `[class, mode, code]`, classes by `weights`."""
    classes, modes, length = middle.shape
    word = keys.words(key, 2 * count)
    label = skew.classes_of(weights, word[:count])
    mode = (word[count:] % jnp.uint32(modes)).astype(jnp.int32)
    noise = keys.normals(key, count * space.features)
    code = middle.reshape(classes * modes, length)[label * modes + mode]
    return Batch(expand(space, code) + noise.reshape(count, space.features), label)


def log_posterior(space: Space, middle: jax.Array, x: jax.Array) -> jax.Array:
    """Return the exact log-probability of each class `[sample, class]`, classes alike likely."""
    classes, modes, length = middle.shape
    flat = middle.reshape(classes * modes, length)
    score = project(space, x) @ flat.T - 0.5 * jnp.sum(flat**2, axis=1)[None, :]
    per_class = jax.nn.logsumexp(score.reshape(-1, classes, modes), axis=2)
    return jax.nn.log_softmax(per_class, axis=1)


def make_task(space: Space, classes: int, static: Statics) -> dict[str, jax.Array]:
    """Return the centres, an unskewed held-out set, and the Bayes cross-entropy on it."""
    middle = centres(space, classes, static)
    even = jnp.full(classes, 1.0 / classes)
    key = keys.stream(keys.run_key(0), "mixture.held_out")
    held_out = sample(space, middle, even, key, static["held_out"])
    best = score(log_posterior(space, middle, held_out.x), held_out.label, even)[0]
    return {"centres": middle, "x": held_out.x, "label": held_out.label, "floor": best}


def score(log_probability: jax.Array, label: jax.Array, weights: jax.Array) -> Scores:
    """Return the cross-entropy (nats) and the accuracy of predictions `[sample, class]`.

    The last figure is the cross-entropy where classes come by `weights [class]`.
    """
    picked = jnp.take_along_axis(log_probability, label[:, None], axis=1)
    right = jnp.argmax(log_probability, axis=1) == label
    own = masked_mean(-picked[:, 0], weights[label])
    return -jnp.mean(picked), jnp.mean(right.astype(jnp.float32)), own


def loss(logits: Logits, static: Statics, params: jax.Array, batch: Batch) -> jax.Array:
    """Return the mean cross-entropy of a classifier on a batch."""
    outputs = jax.nn.log_softmax(logits(static, params, batch.x))
    hot = batch.label[:, None] == jnp.arange(outputs.shape[1])[None, :]
    return -jnp.sum(jnp.where(hot, outputs, 0.0)) / batch.label.shape[0]


def worker_gradient(
    logits: Logits, space: Space, static: Statics, knobs: Knobs, task: Task,
    params: jax.Array, key: jax.Array, worker: jax.Array, relabel: Relabel | None = None,
) -> jax.Array:  # fmt: skip
    """Return a classifier's gradient `[dim]` on one fresh batch of this worker's classes."""
    middle = task["centres"]
    weights = skew.class_weights(knobs["skew"], worker, middle.shape[0])
    batch = sample(space, middle, weights, key, static["batch"])
    if relabel is not None:
        batch = batch._replace(label=relabel(batch.label, middle.shape[0]))
    return jax.grad(loss, argnums=2)(logits, static, params, batch)


def shard(static: Statics, knobs: Knobs, worker: jax.Array) -> jax.Array:
    """Return the worker's class probabilities `[class]`."""
    classes = static["classes"] if "classes" in static else static["widths"][-1]
    return skew.class_weights(knobs["skew"], worker, classes)


def held_out_score(
    logits: Logits, static: Statics, task: Task, shard: jax.Array, params: jax.Array
) -> Scores:
    """Return a classifier's cross-entropy and accuracy on the held-out set, block by block.

    And the cross-entropy where classes come as often as `shard [class]` says.
    """
    block = math.gcd(task["label"].shape[0], BLOCK)
    x = task["x"].reshape(-1, block, task["x"].shape[1])
    outputs = jax.lax.map(lambda part: jax.nn.log_softmax(logits(static, params, part)), x)
    return score(outputs.reshape(-1, outputs.shape[-1]), task["label"], shard)


def floor(static: Statics, knobs: Knobs, task: Task) -> jax.Array:
    """Return the Bayes cross-entropy on the held-out set."""
    return task["floor"]
