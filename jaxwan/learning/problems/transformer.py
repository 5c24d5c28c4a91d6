"""Decoder-only transformer on a synthetic Markov language: pre-norm, tied embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jaxwan.core.families import Static
from jaxwan.core.numerics import masked_mean
from jaxwan.learning.problems import flat, markov, skew
from jaxwan.learning.problems.problem import (
    Knobs,
    Layout,
    Problem,
    Relabel,
    Scores,
    Statics,
    Task,
)

BLOCK = 8  # held-out sequences looked at together, so that they stay in the cache


def dense(fan_in: int, fan_out: int, shrink: float = 1.0) -> list[flat.Tensor]:
    """Describe a dense layer that keeps unit variance, times `shrink`, and its bias."""
    weight = flat.Tensor((fan_in, fan_out), 0.0, shrink / math.sqrt(fan_in))
    return [weight, flat.zeros(fan_out)]


def tensors(static: Statics) -> list[flat.Tensor]:
    """Describe token and place embeddings, the layers, and the last norm (Radford et al. 2019)."""
    width, layers = static["width"], static["layers"]
    norm, shrink = [flat.ones(width), flat.zeros(width)], (2 * layers) ** -0.5
    small = 0.5 / math.sqrt(width)
    found = [
        flat.Tensor((static["vocabulary"], width), 0.0, small),
        flat.Tensor((static["context"], width), 0.0, small),
    ]
    for _ in range(layers):
        found += [*norm, *dense(width, 3 * width), *dense(width, width, shrink)]
        found += [*norm, *dense(width, 4 * width), *dense(4 * width, width, shrink)]
    return [*found, *norm]


def layout(static: Statics) -> Layout:
    """Return the shapes: embeddings, then layer by layer.

    Raises:
        ValueError: for heads that do not divide the width, or an uneven vocabulary.
    """
    markov.topic_size(static)
    if static["width"] % static["heads"]:
        raise ValueError(f"{static['heads']} heads do not divide the width {static['width']}")
    return flat.shapes(tensors(static))


def init(static: Statics, task: Task, key: jax.Array) -> jax.Array:
    """Draw normal weights, unit scales and zero biases."""
    return flat.draw(tensors(static), key)


def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalise each token `[..., width]` (Ba et al. 2016)."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * scale + bias


def attend(x: jax.Array, heads: int) -> jax.Array:
    """Mix earlier tokens: queries, keys and values `[sequence, place, 3 * width]` to `width`."""
    count, length, tripled = x.shape
    split = x.reshape(count, length, 3, heads, tripled // 3 // heads)
    query, key, value = (split[:, :, part] for part in range(3))
    score = jnp.einsum("nqhd,nkhd->nhqk", query, key) / math.sqrt(query.shape[3])
    past = jnp.arange(length)[:, None] >= jnp.arange(length)[None, :]
    weight = jax.nn.softmax(jnp.where(past[None, None], score, -1e9), axis=3)
    return jnp.einsum("nhqk,nkhd->nqhd", weight, value).reshape(count, length, tripled // 3)


def layer(static: Statics, piece: Iterator[jax.Array], x: jax.Array) -> jax.Array:
    """Apply attention and two dense layers, each on top of what came in."""

    def norm(x: jax.Array) -> jax.Array:
        return normalize(x, next(piece)[None, None], next(piece)[None, None])

    def linear(x: jax.Array) -> jax.Array:
        return x @ next(piece) + next(piece)[None, None]

    x = x + linear(attend(linear(norm(x)), static["heads"]))
    return x + linear(jax.nn.relu(linear(norm(x))))


def logits(static: Statics, params: jax.Array, text: jax.Array) -> jax.Array:
    """Return the outputs `[sequence, place, token]` after tokens `[sequence, place]`."""
    piece = iter(flat.split(params, layout(static)))
    embedding, places = next(piece), next(piece)
    x = embedding[text] + places[None]
    for _ in range(static["layers"]):
        x = layer(static, piece, x)
    return normalize(x, next(piece)[None, None], next(piece)[None, None]) @ embedding.T


def log_likelihood(
    static: Statics, params: jax.Array, text: jax.Array, relabel: Relabel | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return each next token's log-probability and whether it was the likeliest."""
    outputs = jax.nn.log_softmax(logits(static, params, text[:, :-1]))
    target = text[:, 1:] if relabel is None else relabel(text[:, 1:], outputs.shape[2])
    hot = target[:, :, None] == jnp.arange(outputs.shape[2])[None, None]
    picked = jnp.sum(jnp.where(hot, outputs, 0.0), axis=2)
    return picked, picked >= jnp.max(outputs, axis=2)


def loss(
    static: Statics, params: jax.Array, text: jax.Array, relabel: Relabel | None = None
) -> jax.Array:
    """Return the mean cross-entropy of next tokens, nats."""
    return -jnp.mean(log_likelihood(static, params, text, relabel)[0])


def gradient(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array, key: jax.Array, worker: jax.Array,
    relabel: Relabel | None = None,
) -> jax.Array:  # fmt: skip
    """Return the gradient on fresh sequences of this worker's topics."""
    weights = skew.class_weights(knobs["skew"], worker, static["topics"])
    text, _ = markov.sample(static, task, weights, key, static["batch"])
    return jax.grad(loss, argnums=1)(static, params, text, relabel)


def shard(static: Statics, knobs: Knobs, worker: jax.Array) -> jax.Array:
    """Return the worker's topic probabilities `[topic]`."""
    return skew.class_weights(knobs["skew"], worker, static["topics"])


def evaluate(
    static: Statics, knobs: Knobs, task: Task, shard: jax.Array, params: jax.Array
) -> Scores:
    """Return cross-entropy and accuracy on the held-out sequences, block by block.

    And the cross-entropy where topics come as often as `shard [topic]` says.
    """
    block = math.gcd(static["held_out"], BLOCK)
    text = task["text"].reshape(-1, block, static["context"] + 1)
    picked, right = jax.lax.map(lambda part: log_likelihood(static, params, part), text)
    each = -jnp.mean(picked.reshape(-1, static["context"]), axis=1)
    own = masked_mean(each, shard[task["topic"]])
    return -jnp.mean(picked), jnp.mean(right.astype(jnp.float32)), own


def floor(static: Statics, knobs: Knobs, task: Task) -> jax.Array:
    """Return the cross-entropy of the true chain on the held-out sequences."""
    return task["floor"]


def activations(static: Statics) -> int:
    """Return the values a sequence leaves: 17 widths a token and layer, two maps a head, logits.

    Korthikanti et al. 2022, "Reducing activation recomputation", equation 1, in values.
    """
    length, layers = static["context"], static["layers"]
    per_layer = 17 * length * static["width"] + 2 * static["heads"] * length**2
    return layers * per_layer + 2 * length * static["vocabulary"]


TRANSFORMER = Problem(
    summary="Decoder-only transformer on a synthetic Markov language.",
    paper="Vaswani et al. 2017; Radford et al. 2019",
    knobs={"skew": skew.SKEW},
    static={
        "width": Static(16, "width of a token", low=1, high=65536),
        "layers": Static(1, "layers", low=1, high=1024),
        "heads": Static(2, "attention heads; they divide the width", low=1, high=1024),
    }
    | markov.STATIC,
    layout=layout,
    make_task=markov.make_task,
    init=init,
    gradient=gradient,
    shard=shard,
    evaluate=evaluate,
    floor=floor,
    activations=activations,
)
