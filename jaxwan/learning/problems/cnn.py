"""Convolutional network on Gaussian-mixture images: 3 x 3 convolutions, each with a 2 x 2 pool."""

from __future__ import annotations

import itertools

import jax

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

KERNEL = 3


def flattened(static: Statics) -> int:
    """Return the features that the last pool leaves.

    Raises:
        ValueError: for images that cannot be halved once a convolution.
    """
    pools = len(static["channels"]) - 1
    if static["side"] % 2**pools:
        raise ValueError(f"{static['side']} pixels cannot be halved {pools} times")
    return (static["side"] // 2**pools) ** 2 * static["channels"][-1]


def tensors(static: Statics) -> list[flat.Tensor]:
    """Describe convolutions, one hidden dense layer and the last layer, each with its bias."""
    found = []
    for fan_in, fan_out in itertools.pairwise(static["channels"]):
        found += [flat.he(KERNEL**2 * fan_in, fan_out), flat.zeros(fan_out)]
    hidden, classes = static["hidden"], static["classes"]
    found += [flat.he(flattened(static), hidden), flat.zeros(hidden)]
    return [*found, flat.readout(hidden, classes), flat.zeros(classes)]


def layout(static: Statics) -> Layout:
    """Return weight and bias shapes, layer by layer."""
    return flat.shapes(tensors(static))


def space(static: Statics) -> mixture.Space:
    """Return the images that fit the first convolution."""
    return mixture.images(static["side"], static["channels"][0])


def make_task(static: Statics) -> dict[str, jax.Array]:
    """Return the mixture of images."""
    return mixture.make_task(space(static), static["classes"], static)


def init(static: Statics, task: Task, key: jax.Array) -> jax.Array:
    """Draw He-normal weights, a small last layer, and zero biases."""
    return flat.draw(tensors(static), key)


def logits(static: Statics, params: jax.Array, x: jax.Array) -> jax.Array:
    """Return the outputs `[sample, class]` for images `[sample, feature]`."""
    pieces = flat.split(params, layout(static))
    image = convolution.from_rows(x, static["side"], static["channels"][0])
    for weight, bias in zip(pieces[:-4:2], pieces[1:-4:2], strict=True):
        image = convolution.convolve(image, weight, KERNEL) + convolution.per_channel(bias)
        image = jax.nn.relu(convolution.halve(image))
    w1, b1, w2, b2 = pieces[-4:]
    hidden = jax.nn.relu(image.reshape(-1, x.shape[0]).T @ w1 + b1[None, :])
    return hidden @ w2 + b2[None, :]


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
    """Return cross-entropy and accuracy on the held-out set."""
    return mixture.held_out_score(logits, static, task, shard, params)


def activations(static: Statics) -> int:
    """Return the image, each convolution before and after its pool, and the dense layers."""
    side, total = static["side"], static["side"] ** 2 * static["channels"][0]
    for width in static["channels"][1:]:
        total += side**2 * width + (side // 2) ** 2 * width
        side //= 2
    return total + static["hidden"] + static["classes"]


CNN = Problem(
    summary="Convolutions with pools and a dense head on Gaussian-mixture images.",
    paper="LeCun et al. 1998; sizes as the suite's CIFAR-10 model",
    knobs=mixture.KNOBS,
    static={
        "side": Static(8, "pixels along one edge of an image", low=1, high=1024),
        "channels": Static((1, 4, 8), "image channels, then those of each convolution", low=1),
        "hidden": Static(16, "width of the dense hidden layer", low=1, high=65536),
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
