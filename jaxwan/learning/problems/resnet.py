"""Residual network on Gaussian-mixture images, normalised by the batch's own statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core.families import Static
from jaxwan.learning.problems import convolution, flat, mixture
from jaxwan.learning.problems.problem import (
    Knobs,
    Layout,
    Problem,
    Relabel,
    Scores,
    Statics,
    Task,
)


class Block(NamedTuple):
    """One residual block: two 3 x 3 convolutions beside a shortcut."""

    fan_in: int
    fan_out: int
    stride: int

    @property
    def projects(self) -> bool:
        """Tell whether the shortcut needs a 1 x 1 convolution."""
        return self.stride > 1 or self.fan_in != self.fan_out


def blocks(static: Statics) -> Iterator[Block]:
    """Yield the blocks in order; every stage but the first starts with stride 2."""
    fan_in = static["widths"][0]
    for stage, width in enumerate(static["widths"]):
        for index in range(static["blocks"]):
            yield Block(fan_in, width, 2 if stage > 0 and index == 0 else 1)
            fan_in = width


def normalized(fan_in: int, width: int, kernel: int) -> list[flat.Tensor]:
    """Describe a convolution without bias and its normalisation."""
    return [flat.he(kernel**2 * fan_in, width), flat.ones(width), flat.zeros(width)]


def tensors(static: Statics) -> list[flat.Tensor]:
    """Describe stem, blocks and last layer, in the order of He et al. 2016."""
    found = normalized(static["channels"], static["widths"][0], static["stem"])
    for block in blocks(static):
        found += normalized(block.fan_in, block.fan_out, 3)
        found += normalized(block.fan_out, block.fan_out, 3)
        found += normalized(block.fan_in, block.fan_out, 1) if block.projects else []
    width, classes = static["widths"][-1], static["classes"]
    return [*found, flat.readout(width, classes), flat.zeros(classes)]


def layout(static: Statics) -> Layout:
    """Return weight, scale and bias shapes, layer by layer."""
    return flat.shapes(tensors(static))


def space(static: Statics) -> mixture.Space:
    """Return the images that fit the stem."""
    return mixture.images(static["side"], static["channels"])


def make_task(static: Statics) -> dict[str, jax.Array]:
    """Return the mixture of images."""
    return mixture.make_task(space(static), static["classes"], static)


def init(static: Statics, task: Task, key: jax.Array) -> jax.Array:
    """Draw He-normal weights, a small last layer, unit scales and zero biases."""
    return flat.draw(tensors(static), key)


def logits(static: Statics, params: jax.Array, x: jax.Array) -> jax.Array:
    """Return the outputs `[sample, class]` for images `[sample, feature]`."""
    piece = iter(flat.split(params, layout(static)))

    def layer(x: jax.Array, kernel: int, stride: int) -> jax.Array:
        x = convolution.convolve(x, next(piece), kernel, stride)
        return convolution.normalize_batch(x, next(piece), next(piece))

    stem = static["stem"]
    image = convolution.from_rows(x, static["side"], static["channels"])
    image = jax.nn.relu(layer(image, stem, 2 if stem > 3 else 1))
    image = convolution.pool_overlapping(image) if stem > 3 else image
    for block in blocks(static):
        inner = jax.nn.relu(layer(image, 3, block.stride))
        inner = layer(inner, 3, 1)
        shortcut = layer(image, 1, block.stride) if block.projects else image
        image = jax.nn.relu(inner + shortcut)
    return jnp.mean(image, axis=(1, 2)).T @ next(piece) + next(piece)[None, :]


def gradient(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array, key: jax.Array, worker: jax.Array,
    relabel: Relabel | None = None,
) -> jax.Array:  # fmt: skip
    """Return the gradient on one fresh batch."""
    own = space(static)
    return mixture.worker_gradient(
        logits, own, static, knobs, task, params, key, worker, relabel
    )


def evaluate(
    static: Statics, knobs: Knobs, task: Task, shard: jax.Array, params: jax.Array
) -> Scores:
    """Return cross-entropy and accuracy on the held-out set, normalised by its own statistics."""
    return mixture.held_out_score(logits, static, task, shard, params)


def activations(static: Statics) -> int:
    """Return the image and, of every convolution, its output before and after normalisation."""
    side, width = static["side"], static["widths"][0]
    total = side**2 * static["channels"]
    side = -(-side // 2) if static["stem"] > 3 else side
    total += 2 * side**2 * width
    side = -(-side // 2) if static["stem"] > 3 else side
    for block in blocks(static):
        side = -(-side // block.stride)
        total += (4 + 2 * block.projects) * side**2 * block.fan_out
    return total + width + static["classes"]


RESNET = Problem(
    summary="Residual network with batch statistics on Gaussian-mixture images.",
    paper="He et al. 2016, Deep residual learning for image recognition",
    knobs=mixture.KNOBS,
    static={
        "side": Static(6, "pixels along one edge of an image", low=1, high=1024),
        "channels": Static(1, "channels of an image", low=1, high=1024),
        "stem": Static(3, "first kernel; 7 also strides and pools, as for large images", (3, 7)),
        "widths": Static((4, 8), "channels of each stage", low=1),
        "blocks": Static(1, "residual blocks in each stage", low=1, high=64),
        "classes": Static(10, "classes", low=2, high=65536),
    }
    | mixture.IMAGE_STATIC,
    layout=layout,
    make_task=make_task,
    init=init,
    gradient=gradient,
    shard=mixture.shard,
    evaluate=evaluate,
    floor=mixture.floor,
    activations=activations,
)
